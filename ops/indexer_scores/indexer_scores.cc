#include "ops/indexer_scores/indexer_scores.h"

#include "ops/checks.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/indexer_scores/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<IndexerScores>> Kernels<IndexerScores>() {
  static constexpr Kernel<IndexerScores> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/indexer_scores/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status IndexerScores::Check(const Args& a) {
  VX_CHECK_ARG(IndexerScores, a.q.rank() == 3, "q must be [n, heads, d]");
  const int64_t n = a.q.dim(0), heads = a.q.dim(1), d = a.q.dim(2);
  VX_CHECK_ARG(IndexerScores, Matches(a.w, a.q.dtype(), {n, heads}), "w must be [n, heads] in q's dtype");
  VX_CHECK_ARG(IndexerScores, a.keys.rank() == 2 && a.keys.dim(1) == d && a.keys.dtype() == a.q.dtype(),
               "keys must be [rows, d] in q's dtype");
  VX_CHECK_ARG(IndexerScores, Matches(a.seq, DType::kI32, {n}), "seq must be I32 [n]");
  VX_CHECK_ARG(IndexerScores, a.block_table.rank() == 2 && a.block_table.dtype() == DType::kI32,
               "block_table must be I32 [S, blocks]");
  VX_CHECK_ARG(IndexerScores, Matches(a.count, DType::kI32, {n}), "count must be I32 [n]");
  VX_CHECK_ARG(IndexerScores, a.entries_per_block >= 1, "entries_per_block must be at least 1");
  VX_CHECK_ARG(IndexerScores, a.scores.rank() == 2 && a.scores.dim(0) == n && a.scores.dtype() == DType::kF32,
               "scores must be F32 [n, m]");
  return {};
}
}  // namespace vexil
