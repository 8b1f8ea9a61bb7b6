#include "ops/quantize_activation/quantize_activation.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/quantize_activation/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<QuantizeActivation>> Kernels<QuantizeActivation>() {
  static constexpr Kernel<QuantizeActivation> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/quantize_activation/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status QuantizeActivation::Check(const Args& a) {
  VX_CHECK_ARG(QuantizeActivation, a.block >= 1, "block must be at least 1");
  VX_CHECK_ARG(QuantizeActivation, a.x.rank() == 2, "x must be [n, K]");
  VX_CHECK_ARG(QuantizeActivation, IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_CHECK_ARG(QuantizeActivation, a.codes.dims() == a.x.dims() && a.codes.dtype() == DType::kE4M3,
               "codes must be E4M3 [n, K]");
  const int64_t blocks = (a.x.dim(1) + a.block - 1) / a.block;
  VX_CHECK_ARG(QuantizeActivation, a.scale.dims() == (Dims{a.x.dim(0), blocks}) && a.scale.dtype() == DType::kE8M0,
               "scale must be E8M0 [n, ceil(K/block)]");
  return {};
}
}  // namespace vexil
