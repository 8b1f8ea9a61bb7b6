#include "ops/scatter_rows/scatter_rows.h"

#include "ops/checks.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/scatter_rows/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<ScatterRows>> Kernels<ScatterRows>() {
  static constexpr Kernel<ScatterRows> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/scatter_rows/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status ScatterRows::Check(const Args& a) {
  VX_CHECK_ARG(ScatterRows, a.x.rank() == 2, "x must be [M, d]");
  VX_CHECK_ARG(ScatterRows, Matches(a.rows, DType::kI32, {a.x.dim(0)}), "rows must be I32 [M]");
  VX_CHECK_ARG(ScatterRows, a.pool.rank() == 2 && a.pool.dim(1) == a.x.dim(1) && a.pool.dtype() == a.x.dtype(),
               "pool must be [R, d] in x's dtype");
  return {};
}
}  // namespace vexil
