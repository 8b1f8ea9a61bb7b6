#include "ops/argmax/argmax.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/argmax/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Argmax>> Kernels<Argmax>() {
  static constexpr Kernel<Argmax> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/argmax/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Argmax::Check(const Args& a) {
  VX_CHECK_ARG(Argmax, a.logits.rank() == 2 && a.logits.dtype() == DType::kF32 && a.logits.dim(1) >= 1,
               "logits must be F32 [n, V], V >= 1");
  VX_CHECK_ARG(Argmax, a.index.dtype() == DType::kI32 && a.index.dims() == Dims{a.logits.dim(0)},
               "index must be I32 [n]");
  return {};
}
}  // namespace vexil
