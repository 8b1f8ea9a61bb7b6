#include "ops/scale/scale.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/scale/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Scale>> Kernels<Scale>() {
  static constexpr Kernel<Scale> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/scale/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Scale::Check(const Args& a) {
  VX_CHECK_ARG(Scale, a.x.rank() == 2, "x must be [n, d]");
  VX_CHECK_ARG(Scale, IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_CHECK_ARG(Scale, a.y.dims() == a.x.dims() && a.y.dtype() == a.x.dtype(), "y must be like x");
  return {};
}
}  // namespace vexil
