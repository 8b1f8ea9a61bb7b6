// The argmax of a row, for Argmax and Sample.
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

// By a block, for all of its threads: the lowest index of the largest value; NaN never wins; 0 when every value is NaN.
__device__ inline int ArgmaxOfRow(const float* v, int count, uint64_t* shared) {
  uint64_t best = ~uint64_t(0);
  for (int i = threadIdx.x; i < count; i += int(blockDim.x)) {
    const uint64_t key = v[i] != v[i] ? uint64_t(0xffffffffu) << 32 | uint32_t(i) : RankKey(v[i], uint32_t(i));
    best = key < best ? key : best;
  }
  return int(uint32_t(BlockReduce(best, shared, ~uint64_t(0), Smaller())));
}

}  // namespace vexil::gpu
