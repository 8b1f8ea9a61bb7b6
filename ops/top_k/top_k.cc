#include "ops/top_k/top_k.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/top_k/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<TopK>> Kernels<TopK>() {
  static constexpr Kernel<TopK> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/top_k/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status TopK::Check(const Args& a) {
  VX_CHECK_ARG(TopK, a.scores.rank() == 2 && a.scores.dtype() == DType::kF32, "scores must be F32 [n, m]");
  VX_CHECK_ARG(TopK, a.count.dtype() == DType::kI32 && a.count.dims() == Dims{a.scores.dim(0)},
               "count must be I32 [n]");
  VX_CHECK_ARG(TopK, a.indices.rank() == 2 && a.indices.dtype() == DType::kI32 && a.indices.dim(0) == a.scores.dim(0),
               "indices must be I32 [n, k]");
  return {};
}
}  // namespace vexil
