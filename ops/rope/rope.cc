#include "ops/rope/rope.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/rope/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Rope>> Kernels<Rope>() {
  static constexpr Kernel<Rope> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/rope/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Rope::Check(const Args& a) {
  VX_CHECK_ARG(Rope, a.x.rank() == 3, "x must be [n, H, d]");
  VX_CHECK_ARG(Rope, IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_CHECK_ARG(Rope, a.positions.dims() == (Dims{a.x.dim(0)}) && a.positions.dtype() == DType::kI32,
               "positions must be I32 [n]");
  VX_CHECK_ARG(Rope, a.freqs.rank() == 1 && a.freqs.dtype() == DType::kF32, "freqs must be F32 [pairs]");
  VX_CHECK_ARG(Rope, 2 * a.freqs.dim(0) <= a.x.dim(2), "a head has fewer than 2 * pairs channels");
  return {};
}
}  // namespace vexil
