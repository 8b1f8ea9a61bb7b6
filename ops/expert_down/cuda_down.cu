// ExpertDown on the Hopper kernels for few rows, which round x on its way in.
#include "ops/expert_down/expert_down.h"
#include "ops/linear/cuda_glue.h"

namespace vexil::gpu {
namespace {

// What the checks of operands shall see: x once it is rounded.
QuantView RoundedForm(const ExpertDown::Part& p) {
  if (!p.round) return p.x;
  return QuantView(TensorView(p.x.data.raw(), DType::kE4M3, p.x.data.dims()), {}, 1, kE4M3Block);
}

Support SkinnyPart(const Context& ctx, const ExpertDown::Part& p) {
  VX_REQUIRE(!p.round || (p.x.data.dtype() == DType::kBF16 && Fits16Bytes(p.x.data)), "x is not BF16 to be rounded");
  const QuantView x = RoundedForm(p);
  if (!p.offsets.empty()) {
    VX_REQUIRE(x.data.dtype() == DType::kE4M3, "x is neither E4M3 nor rounded to it");
    VX_REQUIRE(p.y.dim(0) <= kSkinnyPairs, "many pairs");
    return SkinnyGroups(ctx, x, p.w2, p.y.dim(0), p.y.dtype());
  }
  VX_REQUIRE(p.y.dim(0) <= kSkinnyAtMost, "many rows");
  return SkinnyOperands(ctx, x, p.w2[0], p.y.dtype());
}

cuda::SkinnyCall CallOf(const ExpertDown::Part& p) {
  cuda::SkinnyCall call = SkinnyCallOf(p.x, p.w2[0], p.y);
  if (p.round) call.input = cuda::SkinnyInput::kBF16Quantize;
  return p.offsets.empty() ? call : WithGroups(call, {}, p.offsets, p.y.dim(0));
}

Status RunSkinny(const Context& ctx, const ExpertDown::Part& p) {
  if (p.empty() || p.y.dim(0) == 0) return {};
  const auto w2 = SkinnyWeightsOf(p.w2);
  return Issued(ExpertDown::kName, p.offsets.empty() ? cuda::SkinnyLinear(LaunchOf(ctx), CallOf(p), w2[0])
                                                     : cuda::SkinnyGroupedLinear(LaunchOf(ctx), CallOf(p), w2.data()));
}

}  // namespace

Support ExpertDownSkinnySupports(const Context& ctx, const ExpertDown::Args& a) {
  for (const ExpertDown::Part* p : {&a.routed, &a.shared}) {
    if (p->empty()) continue;
    if (const Support s = SkinnyPart(ctx, *p); !s) return s;
  }
  return {};
}

Status ExpertDownSkinny(const Context& ctx, const ExpertDown::Args& a) {
  VX_TRY(RunSkinny(ctx, a.shared));
  return RunSkinny(ctx, a.routed);
}

Support ExpertDownTogetherSupports(const Context& ctx, const ExpertDown::Args& a) {
  VX_REQUIRE(!a.routed.empty() && !a.shared.empty(), "serves routed experts and a shared one");
  VX_REQUIRE(a.routed.round && a.shared.round, "rounds both inputs");
  if (const Support s = ExpertDownSkinnySupports(ctx, a); !s) return s;
  return SkinnyTogether({CallOf(a.routed), CallOf(a.shared)}, false);
}

Status ExpertDownTogether(const Context& ctx, const ExpertDown::Args& a) {
  const auto w2 = SkinnyWeightsOf(a.routed.w2), shared_w2 = SkinnyWeightsOf(a.shared.w2);
  return Issued(ExpertDown::kName,
                cuda::SkinnyExpertsDown(LaunchOf(ctx), {CallOf(a.routed), CallOf(a.shared)}, w2.data(), shared_w2[0]));
}

}  // namespace vexil::gpu
