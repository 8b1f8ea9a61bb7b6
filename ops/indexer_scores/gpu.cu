// A block per token and 64 entries. The token's queries lie in shared memory as f32 [d][heads + 1]; a warp takes 4
// entries at a time with its lanes over heads, so that a dot product needs no exchange between lanes: f32 FMAs over
// channels in ascending order. Heads are added lane by lane, then at distances 16, 8, ..., 1.
#include "ops/gpu_kernel.cuh"
#include "ops/indexer_scores/indexer_scores.h"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 8;
constexpr int kEntries = 64;  // per block
constexpr int kAtOnce = 4;    // per warp
constexpr int64_t kMaxShared = 200 * 1024;

struct Pool {
  const int32_t *seq, *count;
  Rows<const int32_t> block_table;
  int per_block;
};

template <class T>
__global__ void IndexerScoresKernel(Rows<const T> q, Rows<const T> w, Rows<const T> keys, Pool pool, Rows<float> scores,
                                    int columns, int heads, int d) {
  BeginKernel();
  extern __shared__ float shared[];
  const int pitch = heads + 1;                              // odd for an even number of heads: no bank conflicts
  float* queries = shared;                                  // [d][pitch]
  float* key = queries + d * pitch + Warp() * kAtOnce * d;  // [kAtOnce][d] of each warp
  const int64_t t = blockIdx.x;
  const int begin = int(blockIdx.y) * kEntries, count = pool.count[t];
  const int end = begin + kEntries < columns ? begin + kEntries : columns;
  for (int j = begin + int(threadIdx.x); j < end; j += kWarps * kWarp) {
    if (j >= count) scores.at(t)[j] = -INFINITY;
  }
  if (begin >= count) return;
  for (int h = Warp(); h < heads; h += kWarps) {
    for (int i = Lane(); i < d; i += kWarp) queries[i * pitch + h] = ToF32(q.at(t, h)[i]);
  }
  __syncthreads();
  const int32_t* pages = pool.block_table.at(pool.seq[t]);
  for (int first = begin + Warp() * kAtOnce; first < end && first < count; first += kWarps * kAtOnce) {
    SyncWarp();
    for (int e = 0; e < kAtOnce; ++e) {
      const int j = first + e < count ? first + e : count - 1;
      const T* row = keys.at(int64_t(pages[j / pool.per_block]) * pool.per_block + j % pool.per_block);
      for (int i = Lane(); i < d; i += kWarp) key[e * d + i] = ToF32(row[i]);
    }
    SyncWarp();
    float sum[kAtOnce] = {};
    for (int h = Lane(); h < heads; h += kWarp) {
      float dot[kAtOnce] = {};
      for (int i = 0; i < d; ++i) {
        const float query = queries[i * pitch + h];
#pragma unroll
        for (int e = 0; e < kAtOnce; ++e) dot[e] += query * key[e * d + i];
      }
      const float weight = ToF32(w.at(t)[h]);
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) sum[e] += Rounded<T>(fmaxf(Rounded<T>(dot[e]), 0.0f) * weight);
    }
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) {
      const float total = WarpReduce(sum[e]);
      if (Lane() == 0 && first + e < end && first + e < count) scores.at(t)[first + e] = Rounded<T>(total);
    }
  }
}

size_t SharedBytes(const IndexerScores::Args& a) {
  return size_t(a.q.dim(2)) * size_t(a.q.dim(1) + 1 + kWarps * kAtOnce) * sizeof(float);
}

}  // namespace

Support IndexerScoresHeadsSupports(const Context&, const IndexerScores::Args& a) {
  VX_REQUIRE(IsElement(a.q.dtype()), "q must be F32 or BF16");
  VX_REQUIRE(SharedBytes(a) <= size_t(kMaxShared), "a token's queries do not fit in shared memory");
  return {};
}

Status IndexerScoresHeads(const Context& ctx, const IndexerScores::Args& a) {
  const int columns = int(a.scores.dim(1));
  const dim3 grid(unsigned(a.q.dim(0)), Blocks(columns, kEntries));
  if (grid.x == 0 || grid.y == 0) return {};
  const Pool pool{DataOf<int32_t>(a.seq), DataOf<int32_t>(a.count), RowsOf<int32_t>(a.block_table),
                  int(a.entries_per_block)};
  WithElement(a.q.dtype(), [&](auto e) {
    using T = decltype(e);
    AllowShared(IndexerScoresKernel<T>, SharedBytes(a));
    Launch(ctx, IndexerScoresKernel<T>, grid, kWarps * kWarp, SharedBytes(a), RowsOf<T>(a.q), RowsOf<T>(a.w),
           RowsOf<T>(a.keys), pool, MutRowsOf<float>(a.scores), columns, int(a.q.dim(1)), int(a.q.dim(2)));
  });
  return Launched(IndexerScores::kName);
}

}  // namespace vexil::gpu
