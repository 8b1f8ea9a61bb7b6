#include "ops/embedding/embedding.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/embedding/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Embedding>> Kernels<Embedding>() {
  static constexpr Kernel<Embedding> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/embedding/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Embedding::Check(const Args& a) {
  VX_CHECK_ARG(Embedding, a.ids.rank() == 1 && a.ids.dtype() == DType::kI32, "ids must be I32 [n]");
  VX_CHECK_ARG(Embedding, a.table.rank() == 2, "table must be [V, D]");
  VX_CHECK_ARG(Embedding, a.y.rank() == 3 && a.y.dim(0) == a.ids.dim(0) && a.y.dim(2) == a.table.dim(1),
               "y must be [n, m, D]");
  VX_CHECK_ARG(Embedding, IsFloat(a.y.dtype()), "y must be F32 or BF16");
  return {};
}
}  // namespace vexil
