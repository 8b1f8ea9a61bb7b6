#include "ops/expert_down/expert_down.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/expert_down/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<ExpertDown>> Kernels<ExpertDown>() {
  static constexpr Kernel<ExpertDown> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/expert_down/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

static Status CheckPart(const ExpertDown::Part& p) {
  VX_CHECK_ARG(ExpertDown, !p.round || IsFloat(p.x.data.dtype()), "x must be F32 or BF16 to be rounded");
  if (!p.offsets.empty())
    return GroupedLinear::Check({.x = p.x, .rows = {}, .offsets = p.offsets, .w = p.w2, .y = p.y});
  VX_CHECK_ARG(ExpertDown, p.w2.size() == 1, "without offsets there is one expert");
  return Linear::Check({.x = p.x, .w = p.w2[0], .y = p.y});
}

Status ExpertDown::Check(const Args& a) {
  VX_CHECK_ARG(ExpertDown, !a.routed.empty() || !a.shared.empty(), "there must be routed experts or a shared one");
  if (!a.routed.empty()) VX_TRY(CheckPart(a.routed));
  if (!a.shared.empty()) VX_TRY(CheckPart(a.shared));
  return {};
}
}  // namespace vexil
