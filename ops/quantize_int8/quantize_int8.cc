#include "ops/quantize_int8/quantize_int8.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/quantize_int8/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<QuantizeInt8>> Kernels<QuantizeInt8>() {
  static constexpr Kernel<QuantizeInt8> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/quantize_int8/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status QuantizeInt8::Check(const Args& a) {
  VX_CHECK_ARG(QuantizeInt8, a.x.rank() == 2, "x must be [n, K]");
  VX_CHECK_ARG(QuantizeInt8, IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_CHECK_ARG(QuantizeInt8, a.codes.dims() == a.x.dims() && a.codes.dtype() == DType::kI8, "codes must be I8 [n, K]");
  VX_CHECK_ARG(QuantizeInt8, a.scale.dims() == Dims{a.x.dim(0)} && a.scale.dtype() == DType::kF32,
               "scale must be F32 [n]");
  return {};
}
}  // namespace vexil
