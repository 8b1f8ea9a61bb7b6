// A thread per column of a token.
#include "ops/attention_rows/attention_rows.h"
#include "ops/attention_rows/gpu_lists.cuh"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 128;

__global__ void AttentionRowsKernel(Lists l, Rows<int32_t> rows, int columns) {
  BeginKernel();
  const int column = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (column < columns) rows.at(blockIdx.x)[column] = TokenList(l, blockIdx.x).At(column);
}

}  // namespace

Support AttentionRowsElementSupports(const Context&, const AttentionRows::Args&) { return {}; }

Status AttentionRowsElement(const Context& ctx, const AttentionRows::Args& a) {
  const int columns = int(a.rows.dim(1));
  const dim3 grid(unsigned(a.positions.dim(0)), Blocks(columns, kThreads));
  if (grid.x == 0 || grid.y == 0) return {};
  Launch(ctx, AttentionRowsKernel, grid, kThreads, 0, ListsOf(a), MutRowsOf<int32_t>(a.rows), columns);
  return Launched(AttentionRows::kName);
}

}  // namespace vexil::gpu
