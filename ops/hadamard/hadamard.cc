#include "ops/hadamard/hadamard.h"

#include <bit>

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/hadamard/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Hadamard>> Kernels<Hadamard>() {
  static constexpr Kernel<Hadamard> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/hadamard/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Hadamard::Check(const Args& a) {
  VX_CHECK_ARG(Hadamard, a.x.rank() == 2 && std::has_single_bit(uint64_t(a.x.dim(1))),
               "x must be [rows, d] with d a power of two");
  VX_CHECK_ARG(Hadamard, IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}
}  // namespace vexil
