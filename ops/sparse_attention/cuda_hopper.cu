// Floor: 4 * 64 * 512 operations per token and row of its list at the BF16 rate of the tensor cores. Bytes: 1 KB per
// row (the second-level cache serves rows that several tokens list), 128 KB of q and y per token.
//
// Work: one block of threads per token, or per token and split of its list when there are few tokens. One warpgroup
// gathers the rows of 64 columns at a time into two buffers in shared memory. Two warpgroups multiply: of the logits
// [64 heads x 64 columns] each makes 32 columns; they exchange maxima, each writes its half of P as BF16, and each
// multiplies the whole of P with 256 of the 512 channels. A row is read once and serves as key and as value.
//
// Types: BF16 products, f32 accumulators; softmax in f32; P is rounded to BF16 relative to the running maximum, its sum
// is not. With splits each has its own running maximum; CombineKernel adds the splits in ascending order in f32.
#include <algorithm>

#include "ops/cuda/hopper.cuh"
#include "ops/sparse_attention/cuda_hopper.h"

namespace vexil::cuda {
namespace {

constexpr int kHeads = kAttentionHeads, kWidth = kAttentionWidth;
constexpr int kColumns = 64;  // of the list, per step
constexpr int kHalf = kColumns / 2;
constexpr int kGroup = 128, kConsumers = 2 * kGroup, kThreads = 3 * kGroup;
constexpr int kChunkBytes = 64 * 128;  // 64 rows of 64 channels
constexpr int kChunks = kWidth / 64;
constexpr int kTileBytes = kChunks * kChunkBytes;  // 64 rows of 512 channels
constexpr int kStages = 2;

// Blocks of columns per split. Few make one token fast, more make the sums of splits cheap: long lists take more.
constexpr int BlocksPerSplit(int columns) { return columns <= 1024 ? 2 : 5; }

struct Shared {
  static constexpr int kQ = 0, kKv = kTileBytes, kP = kKv + kStages * kTileBytes;
  static constexpr int kMax = kP + kChunkBytes;          // float [2][64]
  static constexpr int kSum = kMax + 2 * kHeads * 4;     // float [2][64]
  static constexpr int kListed = kSum + 2 * kHeads * 4;  // uint16 [stages][4]: bits of the columns that name a row
  static constexpr int kBarriers = kListed + kStages * 8;
  static constexpr int kTotal = kBarriers + 2 * kStages * 8;
};

// Where 16 bytes lie in a tile of 64 rows: row r, channels 8 u ..
__device__ inline int TileOffset(int r, int u) { return u / 8 * kChunkBytes + r * 128 + ((u % 8) ^ (r % 8)) * 16; }

__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

struct Split {
  float* acc;  // [split][n][64][512]
  float* max;  // [split][n][64]
  float* sum;
};

__device__ inline const __nv_bfloat16* RowAt(const AttentionCall& c, int64_t row) {
  int pool = 0;
  while (pool < 2 && row >= c.pool_rows[pool]) row -= c.pool_rows[pool++];
  return static_cast<const __nv_bfloat16*>(c.pool[pool]) + row * c.pool_stride[pool];
}

// Fills the ring with the rows of columns [begin, end).
template <class RowOf>
__device__ void Gather(const AttentionCall& c, RowOf row_of, int begin, int end, uint8_t* shared, uint64_t* full,
                       uint64_t* empty) {
  const int tid = int(threadIdx.x) - kConsumers, warp = tid / 32, lane = tid % 32;
  RingPosition<kStages> ring;
  for (int first = begin; first < end; first += kColumns) {
    // Each warp takes 16 columns; lane i knows the row of column 16 * warp + i.
    const int column = first + warp * 16 + lane % 16;
    const int row = column < end ? row_of(column) : -1;
    BarrierWait(empty + ring.stage, ring.parity ^ 1);
    const uint32_t listed = __ballot_sync(0xffffffffu, row >= 0);
    if (lane == 0) reinterpret_cast<uint16_t*>(shared + Shared::kListed)[ring.stage * 4 + warp] = uint16_t(listed);
    const auto address = reinterpret_cast<uint64_t>(RowAt(c, max(row, 0)));
    const uint32_t tile = SharedAddress(shared + Shared::kKv + ring.stage * kTileBytes);
#pragma unroll 4
    for (int i = 0; i < 16; ++i) {
      const int r = warp * 16 + i;
      const auto* v = reinterpret_cast<const __nv_bfloat16*>(__shfl_sync(0xffffffffu, address, i));
      CopyAsync16(tile + TileOffset(r, lane), v + lane * 8, listed >> i & 1);
      CopyAsync16(tile + TileOffset(r, lane + 32), v + (lane + 32) * 8, listed >> i & 1);
    }
    BarrierArrive(full + ring.stage);
    BarrierArriveAfterCopies(full + ring.stage);
    ring.Next();
  }
  CopyAsyncCommit();
  CopyAsyncWait<0>();
}

template <bool kSplit>
__global__ void __launch_bounds__(kThreads, 1)
    AttentionKernel(const __grid_constant__ AttentionCall c, const Split split, int columns_per_split) {
  extern __shared__ __align__(1024) uint8_t shared[];
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + Shared::kBarriers);
  uint64_t* const empty = full + kStages;
  const int token = blockIdx.x, begin = int(blockIdx.y) * columns_per_split,
            end = min(begin + columns_per_split, c.columns);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      BarrierInit(full + s, 2 * kGroup);
      BarrierInit(empty + s, kConsumers);
    }
    FenceBarrierInit();
  }
  LetSuccessorStart();
  WaitForPredecessor();
  __syncthreads();
  const int group = int(threadIdx.x) / kGroup;
  if (group == 2) {
    GiveRegisters<72>();
    if (c.rows != nullptr) {
      const int32_t* const rows = c.rows + token * c.rows_stride;
      Gather(
          c, [&](int column) { return rows[column]; }, begin, end, shared, full, empty);
    } else {
      const gpu::TokenList list(c.lists, token);
      Gather(
          c, [&](int column) { return list.At(column); }, begin, end, shared, full, empty);
    }
    return;
  }
  TakeRegisters<216>();
  {
    const __nv_bfloat16* q = static_cast<const __nv_bfloat16*>(c.q) + token * c.q_token_stride;
    const uint32_t to = SharedAddress(shared + Shared::kQ);
#pragma unroll 4
    for (int i = threadIdx.x; i < kHeads * 64; i += kConsumers) {
      CopyAsync16(to + TileOffset(i / 64, i % 64), q + i / 64 * c.q_head_stride + i % 64 * 8, true);
    }
    CopyAsyncCommit();
    CopyAsyncWait<0>();
    FenceAsyncProxy();
    NamedBarrier<1, kConsumers>();
  }
  const int tid = int(threadIdx.x) % kGroup, lane = tid % 32, t = lane % 4;
  const int head = tid / 32 * 16 + lane / 4;  // and head + 8
  float* const maxima = reinterpret_cast<float*>(shared + Shared::kMax);
  uint8_t* const p_tile = shared + Shared::kP;
  const float kNone = __uint_as_float(0xff800000u);
  float acc[128];
#pragma unroll
  for (float& a : acc) a = 0;
  float max[2] = {kNone, kNone}, sum[2] = {0, 0};
  RingPosition<kStages> ring;
  for (int first = begin; first < end; first += kColumns) {
    BarrierWait(full + ring.stage, ring.parity);
    FenceAsyncProxy();
    const uint8_t* kv = shared + Shared::kKv + ring.stage * kTileBytes;
    float s[16];
    const uint64_t qd = SwizzledTile(shared + Shared::kQ), kd = SwizzledTile(kv + group * kHalf * 128);
    WarpgroupFence();
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      const int step = k / 4 * (kChunkBytes / 16) + k % 4 * 2;
      WgmmaBF16N32(s, qd + step, kd + step, k > 0);
    }
    WarpgroupCommit();
    const uint32_t listed =
        reinterpret_cast<const uint32_t*>(shared + Shared::kListed)[ring.stage * 2 + group] >> 2 * t;
    WarpgroupWait<0>();
    // s[4 j + i]: column 8 j + 2 t + i % 2, head (i < 2) or head + 8.
    float top[2] = {kNone, kNone};
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      s[i] = listed >> (i / 4 * 8 + i % 2) & 1 ? s[i] * c.scale : kNone;
      top[i / 2 % 2] = fmaxf(top[i / 2 % 2], s[i]);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
      if (t == 0) maxima[group * kHeads + head + 8 * r] = top[r];
    }
    NamedBarrier<1, kConsumers>();  // both halves' maxima are there, and the previous P has been multiplied
    float keep[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float to = fmaxf(max[r], fmaxf(top[r], maxima[(group ^ 1) * kHeads + head + 8 * r]));
      keep[r] = max[r] == to ? 1.0f : expf(max[r] - to);
      max[r] = to;
      sum[r] *= keep[r];
    }
    constexpr float kLog2E = 1.44269504f;
    const float base[2] = {max[0] == kNone ? 0 : max[0] * kLog2E, max[1] == kNone ? 0 : max[1] * kLog2E};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float a = Exp2(fmaf(s[4 * j + 2 * r], kLog2E, -base[r])),
                    b = Exp2(fmaf(s[4 * j + 2 * r + 1], kLog2E, -base[r]));
        sum[r] += a + b;
        *reinterpret_cast<uint32_t*>(p_tile + TileOffset(head + 8 * r, group * 4 + j) + t * 4) = PackBF16(a, b);
      }
    }
    FenceAsyncProxy();
    NamedBarrier<2, kConsumers>();
    if (__any_sync(0xffffffffu, keep[0] != 1.0f || keep[1] != 1.0f)) {
#pragma unroll
      for (int i = 0; i < 128; ++i) acc[i] *= keep[i / 2 % 2];
    }
    const uint64_t pd = SwizzledTile(p_tile), vd = SwizzledColumns(kv + group * 4 * kChunkBytes, kChunkBytes);
    WarpgroupFence();
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) WgmmaBF16N256(acc, pd + 2 * k, vd + k * (16 * 128 / 16), true);
    WarpgroupCommit();
    WarpgroupWait<0>();
    BarrierArrive(empty + ring.stage);
    ring.Next();
  }
  float* const sums = reinterpret_cast<float*>(shared + Shared::kSum);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    if (t == 0) sums[group * kHeads + head + 8 * r] = sum[r];
  }
  NamedBarrier<1, kConsumers>();
#pragma unroll
  for (int r = 0; r < 2; ++r) sum[r] = sums[head + 8 * r] + sums[kHeads + head + 8 * r];
  if constexpr (kSplit) {
    const int64_t at = (int64_t(blockIdx.y) * gridDim.x + token) * kHeads;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float* to = split.acc + (at + head + 8 * r) * kWidth + group * 256 + 2 * t;
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        *reinterpret_cast<float2*>(to + 8 * j) = make_float2(acc[4 * j + 2 * r], acc[4 * j + 2 * r + 1]);
      }
      if (t == 0 && group == 0) {
        split.max[at + head + 8 * r] = max[r];
        split.sum[at + head + 8 * r] = sum[r];
      }
    }
  } else {
    // Through shared memory (q's place) to whole rows.
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float z = sum[r] + expf(c.sink[head + 8 * r] - max[r]);
      const bool none = max[r] == kNone;
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        *reinterpret_cast<uint32_t*>(shared + TileOffset(head + 8 * r, group * 32 + j) + t * 4) =
            none ? 0 : PackBF16(acc[4 * j + 2 * r] / z, acc[4 * j + 2 * r + 1] / z);
      }
    }
    NamedBarrier<1, kConsumers>();
    __nv_bfloat16* y = static_cast<__nv_bfloat16*>(c.y) + token * c.y_token_stride;
#pragma unroll 4
    for (int i = threadIdx.x; i < kHeads * 64; i += kConsumers) {
      *reinterpret_cast<uint4*>(y + i / 64 * c.y_head_stride + i % 64 * 8) =
          *reinterpret_cast<const uint4*>(shared + TileOffset(i / 64, i % 64));
    }
  }
}

// One block per token and head: y = sum of the splits' accumulators over the whole denominator.
__global__ void __launch_bounds__(128)
    CombineKernel(const __grid_constant__ AttentionCall c, const Split split, int splits) {
  LetSuccessorStart();
  WaitForPredecessor();
  const int token = blockIdx.x, head = blockIdx.y, column = int(threadIdx.x) * 4;
  const float kNone = __uint_as_float(0xff800000u);
  const int64_t at = int64_t(token) * kHeads + head, step = int64_t(c.n) * kHeads;
  float max = kNone;
  for (int s = 0; s < splits; ++s) max = fmaxf(max, split.max[at + s * step]);
  uint2 out = {};
  if (max != kNone) {
    float z = 0, acc[4] = {};
    for (int s = 0; s < splits; ++s) {
      const float keep = expf(split.max[at + s * step] - max);
      const float4 v = *reinterpret_cast<const float4*>(split.acc + (at + s * step) * kWidth + column);
      z += split.sum[at + s * step] * keep;
      acc[0] += v.x * keep;
      acc[1] += v.y * keep;
      acc[2] += v.z * keep;
      acc[3] += v.w * keep;
    }
    z += expf(c.sink[head] - max);
    out = make_uint2(PackBF16(acc[0] / z, acc[1] / z), PackBF16(acc[2] / z, acc[3] / z));
  }
  *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(c.y) + token * c.y_token_stride + head * c.y_head_stride +
                            column) = out;
}

struct Splitting {
  int splits, columns;
};
Splitting SplittingOf(const AttentionCall& c, int blocks_per_split) {
  if (c.n > kAttentionSplitTokens) return {1, std::max(c.columns, 1)};
  const int columns = (blocks_per_split ? blocks_per_split : BlocksPerSplit(c.columns)) * kColumns;
  return {std::max(1, (c.columns + columns - 1) / columns), columns};
}

}  // namespace

int64_t AttentionWorkspace(const AttentionCall& c, int blocks_per_split) {
  const Splitting s = SplittingOf(c, blocks_per_split);
  return s.splits == 1 ? 0 : int64_t(s.splits) * c.n * kHeads * (kWidth + 2) * int64_t(sizeof(float));
}

cudaError_t Attention(const Launch& launch, const AttentionCall& c, void* workspace, int blocks_per_split) {
  if (c.n == 0) return cudaSuccess;
  const Splitting s = SplittingOf(c, blocks_per_split);
  if (s.splits == 1) {
    return Start(launch, AttentionKernel<false>, dim3(unsigned(c.n)), kThreads, Shared::kTotal, c, Split{}, s.columns);
  }
  Split split;
  split.acc = static_cast<float*>(workspace);
  split.max = split.acc + int64_t(s.splits) * c.n * kHeads * kWidth;
  split.sum = split.max + int64_t(s.splits) * c.n * kHeads;
  const dim3 grid{unsigned(c.n), unsigned(s.splits), 1};
  if (cudaError_t e = Start(launch, AttentionKernel<true>, grid, kThreads, Shared::kTotal, c, split, s.columns);
      e != cudaSuccess) {
    return e;
  }
  return Start(launch, CombineKernel, dim3(unsigned(c.n), kHeads, 1), 128, 0, c, split, s.splits);
}

}  // namespace vexil::cuda
