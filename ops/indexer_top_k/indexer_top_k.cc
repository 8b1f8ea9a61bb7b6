#include "ops/indexer_top_k/indexer_top_k.h"

#include "ops/checks.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/indexer_top_k/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<IndexerTopK>> Kernels<IndexerTopK>() {
  static constexpr Kernel<IndexerTopK> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/indexer_top_k/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

// What the two ops check themselves is left to them.
Status IndexerTopK::Check(const Args& a) {
  VX_CHECK_ARG(IndexerTopK, a.q.rank() == 3, "q must be [n, heads, d]");
  const int64_t n = a.q.dim(0);
  VX_CHECK_ARG(IndexerTopK, Matches(a.count, DType::kI32, {n}), "count must be I32 [n]");
  VX_CHECK_ARG(IndexerTopK, a.entries_per_block >= 1, "entries_per_block must be at least 1");
  VX_CHECK_ARG(IndexerTopK, a.block_table.rank() == 2 && a.block_table.dtype() == DType::kI32,
               "block_table must be I32 [S, blocks]");
  VX_CHECK_ARG(IndexerTopK, a.max_count >= 0 && a.max_count <= a.block_table.dim(1) * a.entries_per_block,
               "max_count must be at most what the blocks hold");
  VX_CHECK_ARG(IndexerTopK, a.indices.rank() == 2 && a.indices.dtype() == DType::kI32 && a.indices.dim(0) == n,
               "indices must be I32 [n, k]");
  return {};
}
}  // namespace vexil
