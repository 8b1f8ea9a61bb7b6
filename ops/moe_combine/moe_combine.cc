#include "ops/moe_combine/moe_combine.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/moe_combine/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<MoeCombine>> Kernels<MoeCombine>() {
  static constexpr Kernel<MoeCombine> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/moe_combine/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status MoeCombine::Check(const Args& a) {
  VX_CHECK_ARG(MoeCombine, a.experts.rank() == 2 && a.experts.dtype() == DType::kI32, "experts must be I32 [n, k]");
  VX_CHECK_ARG(MoeCombine, a.pair_of.dtype() == DType::kI32 && a.pair_of.dims() == a.experts.dims(),
               "pair_of must be I32 [n, k]");
  VX_CHECK_ARG(MoeCombine, a.y.rank() == 2 && a.y.dim(0) == a.experts.dims().Count(), "y must be [n * k, D]");
  const Dims tokens = {a.experts.dim(0), a.y.dim(1)};
  VX_CHECK_ARG(MoeCombine, a.shared.dims() == tokens && a.shared.dtype() == a.y.dtype(),
               "shared must be [n, D] of y's dtype");
  VX_CHECK_ARG(MoeCombine, a.out.dims() == tokens && a.out.dtype() == a.y.dtype(), "out must be [n, D] of y's dtype");
  return {};
}
}  // namespace vexil
