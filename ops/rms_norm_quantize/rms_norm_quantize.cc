#include "ops/rms_norm_quantize/rms_norm_quantize.h"

#include "ops/kernel_lists.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/rms_norm/rms_norm.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/rms_norm_quantize/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<RmsNormQuantize>> Kernels<RmsNormQuantize>() {
  static constexpr Kernel<RmsNormQuantize> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/rms_norm_quantize/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status RmsNormQuantize::Check(const Args& a) {
  VX_CHECK_ARG(RmsNormQuantize, a.x.rank() == 2, "x must be [n, d]");
  VX_CHECK_ARG(RmsNormQuantize, a.weight.rank() == 1 && a.weight.dim(0) == a.x.dim(1), "weight must be [d]");
  return QuantizeActivation::Check({.x = a.x, .codes = a.codes, .scale = a.scale, .block = a.block});
}
}  // namespace vexil
