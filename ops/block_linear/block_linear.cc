#include "ops/block_linear/block_linear.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"
#include "ops/linear/operands.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/block_linear/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<BlockLinear>> Kernels<BlockLinear>() {
  static constexpr Kernel<BlockLinear> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/block_linear/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status BlockLinear::Check(const Args& a) {
  VX_CHECK_ARG(BlockLinear, a.x.rank() == 2 && IsFloat(a.x.dtype()), "x must be [n, G*K], F32 or BF16");
  VX_CHECK_ARG(BlockLinear, !a.w.empty(), "w must have at least one weight");
  for (const QuantView& g : a.w) {
    const char* w = RefuseWeight(g);
    VX_CHECK_ARG(BlockLinear, w == nullptr, w);
    VX_CHECK_ARG(BlockLinear, g.data.dtype() == a.w[0].data.dtype() && g.data.dims() == a.w[0].data.dims(),
                 "all w must have the same dtype and shape");
  }
  const int64_t groups = int64_t(a.w.size());
  VX_CHECK_ARG(BlockLinear, a.x.dim(1) == groups * a.w[0].Columns(), "x must have K columns for each weight");
  VX_CHECK_ARG(BlockLinear, a.y.dims() == (Dims{a.x.dim(0), groups * a.w[0].data.dim(0)}) && IsFloat(a.y.dtype()),
               "y must be [n, G*N], F32 or BF16");
  return {};
}
}  // namespace vexil
