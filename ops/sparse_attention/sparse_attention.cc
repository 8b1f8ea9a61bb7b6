#include "ops/sparse_attention/sparse_attention.h"

#include "ops/checks.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/sparse_attention/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<SparseAttention>> Kernels<SparseAttention>() {
  static constexpr Kernel<SparseAttention> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/sparse_attention/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status SparseAttention::Check(const Args& a) {
  VX_CHECK_ARG(SparseAttention, a.q.rank() == 3, "q must be [n, H, d]");
  const int64_t n = a.q.dim(0), heads = a.q.dim(1), d = a.q.dim(2);
  const auto is_pool = [&](const TensorView& kv) {
    return kv.rank() == 2 && kv.dim(1) == d && kv.dtype() == a.q.dtype();
  };
  VX_CHECK_ARG(SparseAttention, a.rows.rank() == 2 && a.rows.dim(0) == n && a.rows.dtype() == DType::kI32,
               "rows must be I32 [n, L]");
  VX_CHECK_ARG(SparseAttention, is_pool(a.step_kv), "step_kv must be [Rs, d] in q's dtype");
  VX_CHECK_ARG(SparseAttention, a.window_kv.empty() || is_pool(a.window_kv), "window_kv must be [Rw, d] in q's dtype");
  VX_CHECK_ARG(SparseAttention, a.compressed_kv.empty() || is_pool(a.compressed_kv),
               "compressed_kv must be [Rc, d] in q's dtype");
  VX_CHECK_ARG(SparseAttention, Matches(a.sink, DType::kF32, {heads}), "sink must be F32 [H]");
  VX_CHECK_ARG(SparseAttention, Matches(a.y, a.q.dtype(), a.q.dims()), "y must be like q");
  return {};
}
}  // namespace vexil
