// A warp per token and head; the 8 heads of a block read the same rows, which come from the first-level cache for all
// but the first. Lane l holds the channels l, l + 32, ... of the query and of the accumulator in registers.
#include "ops/gpu_kernel.cuh"
#include "ops/sparse_attention/sparse_attention.h"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 8;
constexpr int kBlock = int(SparseAttention::kBlock);

template <class T>
struct Pools {
  Rows<const T> step, window, compressed;
  int step_rows, window_rows;
  __device__ const T* at(int row) const {
    if (row < step_rows) return step.at(row);
    row -= step_rows;
    return row < window_rows ? window.at(row) : compressed.at(row - window_rows);
  }
};

// The online softmax of one head, C channels per lane.
template <class T, int C>
struct Head {
  float q[C], acc[C];
  float max = -INFINITY, sum = 0;
  int d;

  __device__ void Start(const T* from, int width) {
    d = width;
#pragma unroll
    for (int i = 0; i < C; ++i) {
      const int c = i * kWarp + Lane();
      q[i] = c < d ? ToF32(from[c]) : 0.0f;
      acc[i] = 0;
    }
  }
  __device__ float DotWith(const T* row) const {
    float dot = 0;
#pragma unroll
    for (int i = 0; i < C; ++i) {
      const int c = i * kWarp + Lane();
      if (c < d) dot += q[i] * ToF32(row[c]);
    }
    return WarpReduce(dot);
  }
  // `columns` are at most 64 row indices; p is scratch of the warp for 64 values.
  __device__ void AddBlock(const Pools<T>& pools, const int32_t* columns, int count, float scale, float* p) {
    SyncWarp();
    float block_max = -INFINITY;
    for (int j = 0; j < count; ++j) {
      const int row = columns[j];
      const float logit = row < 0 ? -INFINITY : DotWith(pools.at(row)) * scale;
      block_max = fmaxf(block_max, logit);
      if (Lane() == 0) p[j] = logit;
    }
    if (block_max == -INFINITY) return;  // no row at all
    SyncWarp();
    const float larger = fmaxf(max, block_max), keep = expf(max - larger);
    max = larger;
    float block_sum = 0;
    for (int j = Lane(); j < count; j += kWarp) {
      const float exact = expf(p[j] - max);  // 0 for columns without a row
      p[j] = Rounded<T>(exact);
      block_sum += exact;
    }
    sum = sum * keep + WarpReduce(block_sum);
    SyncWarp();
#pragma unroll
    for (int i = 0; i < C; ++i) acc[i] *= keep;
    for (int j = 0; j < count; ++j) {
      const int row = columns[j];
      if (row < 0) continue;
      const T* v = pools.at(row);
      const float weight = p[j];
#pragma unroll
      for (int i = 0; i < C; ++i) {
        const int c = i * kWarp + Lane();
        if (c < d) acc[i] += weight * ToF32(v[c]);
      }
    }
  }
  __device__ void Finish(float sink, T* y) const {
    const float z = sum + expf(sink - max);
#pragma unroll
    for (int i = 0; i < C; ++i) {
      const int c = i * kWarp + Lane();
      if (c < d) y[c] = FromF32<T>(sum == 0 ? 0.0f : acc[i] / z);
    }
  }
};

template <class T, int C>
__global__ void __launch_bounds__(kWarps* kWarp)
    SparseAttentionKernel(Rows<const T> q, Rows<const int32_t> rows, Pools<T> pools, const float* sink, float scale,
                          Rows<T> y, int heads, int d, int columns) {
  BeginKernel();
  __shared__ float weights[kWarps][kBlock];
  const int h = int(blockIdx.y) * kWarps + Warp();
  const int64_t t = blockIdx.x;
  if (h >= heads) return;
  Head<T, C> head;
  head.Start(q.at(t, h), d);
  for (int j = 0; j < columns; j += kBlock) {
    head.AddBlock(pools, rows.at(t) + j, columns - j < kBlock ? columns - j : kBlock, scale, weights[Warp()]);
  }
  head.Finish(sink[h], y.at(t, h));
}

}  // namespace

Support SparseAttentionWarpSupports(const Context&, const SparseAttention::Args& a) {
  VX_REQUIRE(IsElement(a.q.dtype()), "q must be F32 or BF16");
  VX_REQUIRE(a.q.dim(2) <= 16 * kWarp, "heads wider than 512");
  return {};
}

Status SparseAttentionWarp(const Context& ctx, const SparseAttention::Args& a) {
  const int heads = int(a.q.dim(1)), d = int(a.q.dim(2)), columns = int(a.rows.dim(1));
  const dim3 grid(unsigned(a.q.dim(0)), Blocks(heads, kWarps));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.q.dtype(), [&](auto e) {
    using T = decltype(e);
    const Pools<T> pools{RowsOf<T>(a.step_kv), RowsOf<T>(a.window_kv), RowsOf<T>(a.compressed_kv),
                         int(a.step_kv.dim(0)), a.window_kv.empty() ? 0 : int(a.window_kv.dim(0))};
    const auto kernel = d <= 2 * kWarp ? SparseAttentionKernel<T, 2> : SparseAttentionKernel<T, 16>;
    Launch(ctx, kernel, grid, kWarps * kWarp, 0, RowsOf<T>(a.q), RowsOf<int32_t>(a.rows), pools, DataOf<float>(a.sink),
           a.scale, MutRowsOf<T>(a.y), heads, d, columns);
  });
  return Launched(SparseAttention::kName);
}

}  // namespace vexil::gpu
