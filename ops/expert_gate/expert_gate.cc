#include "ops/expert_gate/expert_gate.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/expert_gate/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<ExpertGate>> Kernels<ExpertGate>() {
  static constexpr Kernel<ExpertGate> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/expert_gate/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

static Status CheckPart(const ExpertGate::Part& p) {
  VX_CHECK_ARG(ExpertGate, !p.w1.empty() && p.w1.size() == p.w3.size(), "w1 and w3 must have the same experts");
  if (p.offsets.empty()) {
    VX_CHECK_ARG(ExpertGate, p.w1.size() == 1 && p.rows.empty(), "without offsets there is one expert, for every row");
    VX_TRY(Linear::Check({.x = p.x, .w = p.w1[0], .y = p.y}));
    VX_TRY(Linear::Check({.x = p.x, .w = p.w3[0], .y = p.y}));
  } else {
    VX_TRY(GroupedLinear::Check(p.Product(p.w1, p.y)));
    VX_TRY(GroupedLinear::Check(p.Product(p.w3, p.y)));
  }
  return Swiglu::Check(p.Activation(p.y, p.y));
}

Status ExpertGate::Check(const Args& a) {
  VX_CHECK_ARG(ExpertGate, !a.routed.empty() || !a.shared.empty(), "there must be routed experts or a shared one");
  if (!a.routed.empty()) VX_TRY(CheckPart(a.routed));
  if (!a.shared.empty()) VX_TRY(CheckPart(a.shared));
  return {};
}
}  // namespace vexil
