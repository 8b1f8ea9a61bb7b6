#include "ops/multi_linear/multi_linear.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"
#include "ops/linear/linear.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/multi_linear/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<MultiLinear>> Kernels<MultiLinear>() {
  static constexpr Kernel<MultiLinear> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/multi_linear/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status MultiLinear::Check(const Args& a) {
  VX_CHECK_ARG(MultiLinear, a.count >= 1 && a.count <= kMaxParts, "there must be 1 to 8 parts");
  for (const Part& p : a.list()) {
    VX_TRY(Linear::Check({.x = p.x, .w = p.w, .y = p.y}));
    VX_CHECK_ARG(MultiLinear, !p.round_x || IsFloat(p.x.data.dtype()), "x that is to be rounded must be F32 or BF16");
    VX_CHECK_ARG(MultiLinear, p.y.dim(0) == a.parts[0].y.dim(0), "all parts must have the same rows");
  }
  return {};
}
}  // namespace vexil
