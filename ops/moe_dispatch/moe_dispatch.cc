#include "ops/moe_dispatch/moe_dispatch.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/moe_dispatch/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<MoeDispatch>> Kernels<MoeDispatch>() {
  static constexpr Kernel<MoeDispatch> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/moe_dispatch/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status MoeDispatch::Check(const Args& a) {
  const auto is_i32 = [](const TensorView& t, const Dims& dims) {
    return t.dtype() == DType::kI32 && t.dims() == dims;
  };
  VX_CHECK_ARG(MoeDispatch, a.experts.rank() == 2 && a.experts.dtype() == DType::kI32, "experts must be I32 [n, k]");
  VX_CHECK_ARG(MoeDispatch, a.experts.IsContiguous() && a.pair_of.IsContiguous(),
               "experts and pair_of must be contiguous");
  VX_CHECK_ARG(MoeDispatch, a.num_experts >= 1, "num_experts must be at least 1");
  const Dims pairs = {a.experts.dims().Count()};
  VX_CHECK_ARG(MoeDispatch, is_i32(a.offsets, {a.num_experts + 1}), "offsets must be I32 [E + 1]");
  VX_CHECK_ARG(MoeDispatch, is_i32(a.pair_token, pairs), "pair_token must be I32 [n * k]");
  VX_CHECK_ARG(MoeDispatch, is_i32(a.pair_slot, pairs), "pair_slot must be I32 [n * k]");
  VX_CHECK_ARG(MoeDispatch, is_i32(a.pair_of, a.experts.dims()), "pair_of must be I32 [n, k]");
  return {};
}
}  // namespace vexil
