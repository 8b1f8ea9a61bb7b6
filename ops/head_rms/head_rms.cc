#include "ops/head_rms/head_rms.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/head_rms/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<HeadRms>> Kernels<HeadRms>() {
  static constexpr Kernel<HeadRms> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/head_rms/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status HeadRms::Check(const Args& a) {
  VX_CHECK_ARG(HeadRms, a.x.rank() == 3 && a.x.dim(2) > 0, "x must be [n, H, d] with d > 0");
  VX_CHECK_ARG(HeadRms, IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}
}  // namespace vexil
