#include "ops/attention_rows/attention_rows.h"

#include "ops/checks.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/attention_rows/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<AttentionRows>> Kernels<AttentionRows>() {
  static constexpr Kernel<AttentionRows> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/attention_rows/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status AttentionRows::Check(const Args& a) {
  const int64_t n = a.positions.dim(0), sequences = a.slot.dim(0);
  VX_CHECK_ARG(AttentionRows, Matches(a.positions, DType::kI32, {n}), "positions must be I32 [n]");
  VX_CHECK_ARG(AttentionRows, Matches(a.seq, DType::kI32, {n}), "seq must be I32 [n]");
  VX_CHECK_ARG(AttentionRows, Matches(a.slot, DType::kI32, {sequences}), "slot must be I32 [S]");
  VX_CHECK_ARG(AttentionRows, Matches(a.seq_begin, DType::kI32, {sequences + 1}), "seq_begin must be I32 [S + 1]");
  VX_CHECK_ARG(AttentionRows, a.window >= 1 && a.window_capacity >= a.window, "window_capacity must hold the window");
  VX_CHECK_ARG(AttentionRows, a.step_rows >= n && a.window_rows >= 0, "step_rows must count the step's tokens");
  VX_CHECK_ARG(AttentionRows, a.rows.rank() == 2 && a.rows.dim(0) == n && a.rows.dtype() == DType::kI32,
               "rows must be I32 [n, L]");
  VX_CHECK_ARG(AttentionRows, a.rows.dim(1) >= a.window, "rows must have a column per window position");
  if (a.entries_per_block == 0) return {};
  VX_CHECK_ARG(AttentionRows, a.entries_per_block > 0, "entries_per_block must not be negative");
  VX_CHECK_ARG(AttentionRows,
               a.block_table.rank() == 2 && a.block_table.dim(0) == sequences && a.block_table.dtype() == DType::kI32,
               "block_table must be I32 [S, blocks]");
  if (a.picks.empty()) {
    VX_CHECK_ARG(AttentionRows, a.ratio >= 1, "ratio must be at least 1 without picks");
    return {};
  }
  VX_CHECK_ARG(AttentionRows, a.picks.rank() == 2 && a.picks.dim(0) == n && a.picks.dtype() == DType::kI32,
               "picks must be I32 [n, K]");
  VX_CHECK_ARG(AttentionRows, a.rows.dim(1) >= a.window + a.picks.dim(1), "rows must have a column per pick");
  return {};
}
}  // namespace vexil
