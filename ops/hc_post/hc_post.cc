#include "ops/hc_post/hc_post.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/hc_post/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<HcPost>> Kernels<HcPost>() {
  static constexpr Kernel<HcPost> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/hc_post/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status HcPost::Check(const Args& a) {
  VX_CHECK_ARG(HcPost, a.residual.rank() == 3, "residual must be [n, m, D]");
  VX_CHECK_ARG(HcPost, IsFloat(a.residual.dtype()), "residual must be F32 or BF16");
  const int64_t n = a.residual.dim(0), m = a.residual.dim(1), d = a.residual.dim(2);
  VX_CHECK_ARG(HcPost, m >= 1 && m <= kMaxStreams, "residual must have 1 to 8 streams");
  VX_CHECK_ARG(HcPost, a.x.dims() == (Dims{n, d}) && a.x.dtype() == a.residual.dtype(),
               "x must be [n, D] of residual's dtype");
  VX_CHECK_ARG(HcPost, a.post.dims() == (Dims{n, m}) && a.post.dtype() == DType::kF32, "post must be F32 [n, m]");
  VX_CHECK_ARG(HcPost, a.comb.dims() == (Dims{n, m, m}) && a.comb.dtype() == DType::kF32, "comb must be F32 [n, m, m]");
  VX_CHECK_ARG(HcPost, a.comb.IsContiguous(), "comb must be contiguous");
  VX_CHECK_ARG(HcPost, a.y.dims() == a.residual.dims() && a.y.dtype() == a.residual.dtype(), "y must be like residual");
  return {};
}
}  // namespace vexil
