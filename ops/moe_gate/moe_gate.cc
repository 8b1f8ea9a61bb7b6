#include "ops/moe_gate/moe_gate.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/moe_gate/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<MoeGate>> Kernels<MoeGate>() {
  static constexpr Kernel<MoeGate> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/moe_gate/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status MoeGate::Check(const Args& a) {
  VX_CHECK_ARG(MoeGate, a.logits.rank() == 2 && a.logits.dtype() == DType::kF32, "logits must be F32 [n, E]");
  const int64_t n = a.logits.dim(0), num_experts = a.logits.dim(1);
  VX_CHECK_ARG(MoeGate, a.k >= 1 && a.k <= num_experts, "k must be in [1, E]");
  VX_CHECK_ARG(MoeGate, a.bias.empty() || (a.bias.dtype() == DType::kF32 && a.bias.dims() == Dims{num_experts}),
               "bias must be F32 [E]");
  if (!a.tid2eid.empty()) {
    VX_CHECK_ARG(MoeGate, a.tid2eid.dtype() == DType::kI32 && a.tid2eid.rank() == 2 && a.tid2eid.dim(1) == a.k,
                 "tid2eid must be I32 [V, k]");
    VX_CHECK_ARG(MoeGate, a.ids.dtype() == DType::kI32 && a.ids.dims() == Dims{n}, "ids must be I32 [n]");
  }
  const Dims slots = {n, a.k};
  VX_CHECK_ARG(MoeGate, a.experts.dtype() == DType::kI32 && a.experts.dims() == slots, "experts must be I32 [n, k]");
  VX_CHECK_ARG(MoeGate, a.weights.dtype() == DType::kF32 && a.weights.dims() == slots, "weights must be F32 [n, k]");
  return {};
}
}  // namespace vexil
