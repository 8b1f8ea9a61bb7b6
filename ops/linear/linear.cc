#include "ops/linear/linear.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"
#include "ops/linear/operands.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/linear/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Linear>> Kernels<Linear>() {
  static constexpr Kernel<Linear> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/linear/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Linear::Check(const Args& a) {
  const char* x = RefuseInput(a.x);
  VX_CHECK_ARG(Linear, x == nullptr, x);
  const char* w = RefuseWeight(a.w);
  VX_CHECK_ARG(Linear, w == nullptr, w);
  const char* pair = RefusePair(a.x, a.w);
  VX_CHECK_ARG(Linear, pair == nullptr, pair);
  VX_CHECK_ARG(Linear, a.y.dims() == (Dims{a.x.data.dim(0), a.w.data.dim(0)}), "y must be [n, N]");
  VX_CHECK_ARG(Linear, IsFloat(a.y.dtype()), "y must be F32 or BF16");
  return {};
}
}  // namespace vexil
