#include "ops/grouped_linear/grouped_linear.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"
#include "ops/linear/operands.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/grouped_linear/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<GroupedLinear>> Kernels<GroupedLinear>() {
  static constexpr Kernel<GroupedLinear> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/grouped_linear/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status GroupedLinear::Check(const Args& a) {
  const char* x = RefuseInput(a.x);
  VX_CHECK_ARG(GroupedLinear, x == nullptr, x);
  VX_CHECK_ARG(GroupedLinear, !a.w.empty(), "w must have at least one expert");
  const char* w = RefuseWeight(a.w[0]);
  VX_CHECK_ARG(GroupedLinear, w == nullptr, w);
  for (const QuantView& e : a.w) {
    VX_CHECK_ARG(GroupedLinear, SameFormat(e, a.w[0]) && e.data.IsContiguous(), "all w must be of one format");
  }
  const char* pair = RefusePair(a.x, a.w[0]);
  VX_CHECK_ARG(GroupedLinear, pair == nullptr, pair);
  VX_CHECK_ARG(GroupedLinear, a.offsets.dtype() == DType::kI32 && a.offsets.dims() == Dims{int64_t(a.w.size()) + 1},
               "offsets must be I32 [E + 1]");
  VX_CHECK_ARG(GroupedLinear, a.rows.empty() || (a.rows.dtype() == DType::kI32 && a.rows.rank() == 1),
               "rows must be I32 [P]");
  const int64_t pairs = a.rows.empty() ? a.x.data.dim(0) : a.rows.dim(0);
  VX_CHECK_ARG(GroupedLinear, a.y.dims() == (Dims{pairs, a.w[0].data.dim(0)}), "y must be [P, N]");
  VX_CHECK_ARG(GroupedLinear, IsFloat(a.y.dtype()), "y must be F32 or BF16");
  return {};
}
}  // namespace vexil
