#include "ops/hc_head/hc_head.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/hc_head/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<HcHead>> Kernels<HcHead>() {
  static constexpr Kernel<HcHead> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/hc_head/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status HcHead::Check(const Args& a) {
  VX_CHECK_ARG(HcHead, a.h.rank() == 3 && a.h.dim(2) > 0, "h must be [n, m, D] with D > 0");
  VX_CHECK_ARG(HcHead, IsFloat(a.h.dtype()), "h must be F32 or BF16");
  const int64_t n = a.h.dim(0), m = a.h.dim(1), d = a.h.dim(2);
  VX_CHECK_ARG(HcHead, m >= 1 && m <= kMaxStreams, "h must have 1 to 8 streams");
  VX_CHECK_ARG(HcHead, a.fn.dims() == (Dims{m, m * d}) && a.fn.dtype() == DType::kF32, "fn must be F32 [m, m*D]");
  VX_CHECK_ARG(HcHead, a.scale.dims() == (Dims{1}) && a.scale.dtype() == DType::kF32, "scale must be F32 [1]");
  VX_CHECK_ARG(HcHead, a.base.dims() == (Dims{m}) && a.base.dtype() == DType::kF32, "base must be F32 [m]");
  VX_CHECK_ARG(HcHead, a.x.dims() == (Dims{n, d}) && a.x.dtype() == a.h.dtype(), "x must be [n, D] of h's dtype");
  return {};
}
}  // namespace vexil
