// A thread per column of a token.
#include "ops/attention_rows/attention_rows.h"
#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 128;

struct Lists {
  const int32_t *positions, *seq, *seq_begin, *slot;
  Rows<const int32_t> block_table, picks;
  int window, window_capacity, per_block, ratio, picks_per_token;
  int64_t step_rows, window_rows;
};

// The row of entry j of sequence s.
__device__ inline int32_t EntryRow(const Lists& l, int s, int j) {
  return int32_t(l.step_rows + l.window_rows + int64_t(l.block_table.at(s)[j / l.per_block]) * l.per_block +
                 j % l.per_block);
}

__device__ inline int32_t RowOf(const Lists& l, int64_t i, int column) {
  const int s = l.seq[i], t = l.positions[i];
  if (column >= l.window) {
    const int c = column - l.window;
    if (l.per_block == 0) return -1;
    if (l.picks.data == nullptr) return c < (t + 1) / l.ratio ? EntryRow(l, s, c) : -1;
    const int32_t pick = c < l.picks_per_token ? l.picks.at(i)[c] : -1;
    return pick < 0 ? -1 : EntryRow(l, s, pick);
  }
  const int p = (t - l.window + 1 > 0 ? t - l.window + 1 : 0) + column;
  if (p > t) return -1;
  const int begin = l.seq_begin[s], first = l.positions[begin];
  if (p >= first) return begin + p - first;
  return int32_t(l.step_rows + int64_t(l.slot[s]) * l.window_capacity + p % l.window_capacity);
}

__global__ void AttentionRowsKernel(Lists l, Rows<int32_t> rows, int columns) {
  BeginKernel();
  const int column = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (column < columns) rows.at(blockIdx.x)[column] = RowOf(l, blockIdx.x, column);
}

}  // namespace

Support AttentionRowsElementSupports(const Context&, const AttentionRows::Args&) { return {}; }

Status AttentionRowsElement(const Context& ctx, const AttentionRows::Args& a) {
  const int columns = int(a.rows.dim(1));
  const dim3 grid(unsigned(a.positions.dim(0)), Blocks(columns, kThreads));
  if (grid.x == 0 || grid.y == 0) return {};
  const Lists l{DataOf<int32_t>(a.positions),
                DataOf<int32_t>(a.seq),
                DataOf<int32_t>(a.seq_begin),
                DataOf<int32_t>(a.slot),
                RowsOf<int32_t>(a.block_table),
                RowsOf<int32_t>(a.picks),
                int(a.window),
                int(a.window_capacity),
                int(a.entries_per_block),
                int(a.ratio),
                a.picks.empty() ? 0 : int(a.picks.dim(1)),
                a.step_rows,
                a.window_rows};
  Launch(ctx, AttentionRowsKernel, grid, kThreads, 0, l, MutRowsOf<int32_t>(a.rows), columns);
  return Launched(AttentionRows::kName);
}

}  // namespace vexil::gpu
