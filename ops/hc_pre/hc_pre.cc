#include "ops/hc_pre/hc_pre.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/hc_pre/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<HcPre>> Kernels<HcPre>() {
  static constexpr Kernel<HcPre> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/hc_pre/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status HcPre::Check(const Args& a) {
  VX_CHECK_ARG(HcPre, a.h.rank() == 3 && a.h.dim(2) > 0, "h must be [n, m, D] with D > 0");
  VX_CHECK_ARG(HcPre, IsFloat(a.h.dtype()), "h must be F32 or BF16");
  const int64_t n = a.h.dim(0), m = a.h.dim(1), d = a.h.dim(2), mixes = (2 + m) * m;
  VX_CHECK_ARG(HcPre, m >= 1 && m <= kMaxStreams, "h must have 1 to 8 streams");
  VX_CHECK_ARG(HcPre, a.fn.dims() == (Dims{mixes, m * d}) && a.fn.dtype() == DType::kF32,
               "fn must be F32 [(2+m)m, m*D]");
  VX_CHECK_ARG(HcPre, a.scale.dims() == (Dims{3}) && a.scale.dtype() == DType::kF32, "scale must be F32 [3]");
  VX_CHECK_ARG(HcPre, a.base.dims() == (Dims{mixes}) && a.base.dtype() == DType::kF32, "base must be F32 [(2+m)m]");
  VX_CHECK_ARG(HcPre, a.x.dims() == (Dims{n, d}) && a.x.dtype() == a.h.dtype(), "x must be [n, D] of h's dtype");
  VX_CHECK_ARG(HcPre, a.post.dims() == (Dims{n, m}) && a.post.dtype() == DType::kF32, "post must be F32 [n, m]");
  VX_CHECK_ARG(HcPre, a.comb.dims() == (Dims{n, m, m}) && a.comb.dtype() == DType::kF32, "comb must be F32 [n, m, m]");
  VX_CHECK_ARG(HcPre, a.comb.IsContiguous(), "comb must be contiguous");
  VX_CHECK_ARG(HcPre, a.sinkhorn_iters >= 1, "sinkhorn_iters must be at least 1");
  return {};
}
}  // namespace vexil
