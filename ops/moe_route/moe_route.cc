#include "ops/moe_route/moe_route.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/moe_route/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<MoeRoute>> Kernels<MoeRoute>() {
  static constexpr Kernel<MoeRoute> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/moe_route/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status MoeRoute::Check(const Args& a) {
  VX_TRY(MoeGate::Check(a.gate));
  return MoeDispatch::Check(a.dispatch());
}
}  // namespace vexil
