#include "ops/sample/sample.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/sample/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<Sample>> Kernels<Sample>() {
  static constexpr Kernel<Sample> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/sample/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status Sample::Check(const Args& a) {
  VX_CHECK_ARG(Sample, a.logits.rank() == 2 && a.logits.dtype() == DType::kF32 && a.logits.dim(1) >= 1,
               "logits must be F32 [n, V], V >= 1");
  const auto per_row = [&](const TensorView& t, DType dtype) {
    return t.dtype() == dtype && t.dims() == Dims{a.logits.dim(0)};
  };
  VX_CHECK_ARG(Sample, per_row(a.temperature, DType::kF32), "temperature must be F32 [n]");
  VX_CHECK_ARG(Sample, per_row(a.top_k, DType::kI32), "top_k must be I32 [n]");
  VX_CHECK_ARG(Sample, per_row(a.top_p, DType::kF32), "top_p must be F32 [n]");
  VX_CHECK_ARG(Sample, per_row(a.min_p, DType::kF32), "min_p must be F32 [n]");
  VX_CHECK_ARG(Sample, per_row(a.uniform, DType::kF32), "uniform must be F32 [n]");
  VX_CHECK_ARG(Sample, per_row(a.token, DType::kI32), "token must be I32 [n]");
  return {};
}
}  // namespace vexil
