#include "ops/swiglu/swiglu.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/swiglu/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Swiglu>> Kernels<Swiglu>() {
  static constexpr Kernel<Swiglu> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/swiglu/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Swiglu::Check(const Args& a) {
  VX_CHECK_ARG(Swiglu, a.a.rank() == 2, "a must be [rows, F]");
  VX_CHECK_ARG(Swiglu, IsFloat(a.a.dtype()), "a must be F32 or BF16");
  VX_CHECK_ARG(Swiglu, a.b.dims() == a.a.dims() && a.b.dtype() == a.a.dtype(), "b must be like a");
  VX_CHECK_ARG(Swiglu, a.y.dims() == a.a.dims() && a.y.dtype() == a.a.dtype(), "y must be like a");
  VX_CHECK_ARG(Swiglu, a.limit >= 0, "limit must not be negative");
  VX_CHECK_ARG(Swiglu, a.row_weight.empty() || (a.row_weight.dtype() == DType::kF32 && a.row_weight.IsContiguous()),
               "row_weight must be contiguous F32");
  VX_CHECK_ARG(Swiglu, a.row_index.empty() || !a.row_weight.empty(), "row_index needs row_weight");
  VX_CHECK_ARG(Swiglu,
               a.row_index.empty() || (a.row_index.dims() == Dims{a.a.dim(0)} && a.row_index.dtype() == DType::kI32),
               "row_index must be I32 [rows]");
  VX_CHECK_ARG(Swiglu, a.row_weight.empty() || !a.row_index.empty() || a.row_weight.dims().Count() == a.a.dim(0),
               "row_weight without row_index must have a value per row");
  return {};
}
}  // namespace vexil
