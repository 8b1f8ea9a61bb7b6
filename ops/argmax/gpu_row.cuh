// The argmax of rows whose chunks are spread over the chip, for Argmax and Sample.
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

inline constexpr int kRowChunk = 1024, kChunkThreads = 256;

inline int RowChunks(int64_t count) { return int(Blocks(count, kRowChunk)); }

// Smaller for larger values, then for lower indices; NaN behind -infinity. Never 0.
__device__ inline uint64_t ArgmaxKey(float v, int i) {
  return v != v ? uint64_t(0xffffffffu) << 32 | uint32_t(i) : RankKey(v, uint32_t(i));
}

// The smallest key of chunk `chunk` of a row, by a block of kChunkThreads, for all of its threads. `shared`: 32 values.
// kNaN: 0 if the chunk has a NaN.
template <bool kNaN>
__device__ inline uint64_t BestOfChunk(const float* row, int count, int chunk, uint64_t* shared) {
  uint64_t best = ~uint64_t(0);
#pragma unroll
  for (int p = 0; p < kRowChunk / kChunkThreads; ++p) {
    const int i = chunk * kRowChunk + p * kChunkThreads + int(threadIdx.x);
    if (i >= count) continue;
    const float v = row[i];
    const uint64_t key = kNaN && v != v ? 0 : ArgmaxKey(v, i);
    best = key < best ? key : best;
  }
  return BlockReduce(best, shared, ~uint64_t(0), Smaller());
}

// The smallest of a row's `chunks` keys, by a block, for all of its threads.
__device__ inline uint64_t BestOfRow(const uint64_t* keys, int chunks, uint64_t* shared) {
  uint64_t best = ~uint64_t(0);
  for (int c = threadIdx.x; c < chunks; c += int(blockDim.x)) best = keys[c] < best ? keys[c] : best;
  return BlockReduce(best, shared, ~uint64_t(0), Smaller());
}

}  // namespace vexil::gpu
