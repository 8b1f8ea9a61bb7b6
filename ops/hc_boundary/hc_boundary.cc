#include "ops/hc_boundary/hc_boundary.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/hc_boundary/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<HcBoundary>> Kernels<HcBoundary>() {
  static constexpr Kernel<HcBoundary> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/hc_boundary/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status HcBoundary::Check(const Args& a) {
  VX_CHECK_ARG(HcBoundary, a.y.empty() == a.y_post.empty() && a.y.empty() == a.y_comb.empty(),
               "y, y_post and y_comb come together");
  VX_CHECK_ARG(HcBoundary, a.codes.empty() == a.codes_scale.empty(), "codes and codes_scale come together");
  if (!a.y.empty()) VX_TRY(HcPost::Check(PostOf(a)));
  VX_TRY(HcPre::Check(PreOf(a)));
  VX_TRY(RmsNorm::Check(NormOf(a)));
  return a.codes.empty() ? Status() : QuantizeActivation::Check(QuantizeOf(a));
}
}  // namespace vexil
