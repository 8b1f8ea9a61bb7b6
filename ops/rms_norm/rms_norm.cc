#include "ops/rms_norm/rms_norm.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/rms_norm/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<RmsNorm>> Kernels<RmsNorm>() {
  static constexpr Kernel<RmsNorm> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/rms_norm/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status RmsNorm::Check(const Args& a) {
  VX_CHECK_ARG(RmsNorm, a.x.rank() == 2, "x must be [rows, d]");
  VX_CHECK_ARG(RmsNorm, a.weight.rank() == 1 && a.weight.dim(0) == a.x.dim(1), "weight must be [d]");
  VX_CHECK_ARG(RmsNorm, a.y.dims() == a.x.dims() && a.y.dtype() == a.x.dtype(), "y must be like x");
  return {};
}
}  // namespace vexil
