#include "ops/finish_rows/finish_rows.h"

#include <bit>

#include "ops/checks.h"
#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/finish_rows/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<FinishRows>> Kernels<FinishRows>() {
  static constexpr Kernel<FinishRows> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/finish_rows/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status FinishRows::CheckSet(const Set& s) {
  VX_CHECK_ARG(FinishRows, s.x.rank() == 3 && IsFloat(s.x.dtype()), "x must be F32 or BF16 [n, H, d]");
  const int64_t n = s.x.dim(0), heads = s.x.dim(1), d = s.x.dim(2);
  VX_CHECK_ARG(FinishRows, d >= 1 && (heads <= 1 || s.x.stride(1) == d), "the heads of a token must be contiguous");
  VX_CHECK_ARG(FinishRows,
               s.norm != Norm::kWeighted || (IsFloat(s.weight.dtype()) && Matches(s.weight, s.weight.dtype(), {d})),
               "weight must be F32 or BF16 [d]");
  if (!s.freqs.empty()) {
    VX_CHECK_ARG(FinishRows, Matches(s.positions, DType::kI32, {n}), "positions must be I32 [n]");
    VX_CHECK_ARG(FinishRows, s.freqs.rank() == 1 && s.freqs.dtype() == DType::kF32 && 2 * s.freqs.dim(0) <= d,
                 "freqs must be F32 [pairs] with 2 * pairs <= d");
  }
  VX_CHECK_ARG(FinishRows, !s.hadamard || std::has_single_bit(uint64_t(d)), "d must be a power of two");
  VX_CHECK_ARG(FinishRows, s.block >= 1 && s.rounded >= 0 && s.rounded <= d, "rounded must be at most d");
  if (!s.rows.empty()) {
    VX_CHECK_ARG(FinishRows, heads == 1 && Matches(s.rows, DType::kI32, {n}), "rows must be I32 [n] for one head");
    VX_CHECK_ARG(FinishRows, s.pool.rank() == 2 && s.pool.dim(1) == d && s.pool.dtype() == s.x.dtype(),
                 "pool must be [R, d] in x's dtype");
  }
  return {};
}

Status FinishRows::Check(const Args& a) {
  for (const Set& s : a.sets) {
    if (s.x.empty()) continue;
    VX_TRY(CheckSet(s));
    VX_CHECK_ARG(FinishRows, a.sets[0].x.empty() || s.x.dtype() == a.sets[0].x.dtype(), "the sets must have one dtype");
  }
  return {};
}
}  // namespace vexil
