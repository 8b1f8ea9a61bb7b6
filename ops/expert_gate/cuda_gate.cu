// ExpertGate on the Hopper kernels that multiply by gate and up and apply the activation in one launch.
#include "ops/expert_gate/expert_gate.h"
#include "ops/linear/cuda_glue.h"

namespace vexil::gpu {
namespace {

template <class Gate>
Gate GateOf(const ExpertGate::Part& p) {
  return {p.limit, DataOf<float>(p.row_weight), DataOf<int32_t>(p.row_index)};
}

// ---- few rows ----

Support SkinnyPart(const Context& ctx, const ExpertGate::Part& p) {
  VX_REQUIRE(p.x.data.dtype() == DType::kE4M3 && p.y.dtype() == DType::kBF16, "x must be E4M3 and y BF16");
  if (!p.offsets.empty()) {
    VX_REQUIRE(p.y.dim(0) <= kSkinnyPairs, "many pairs");
    if (const Support s = SkinnyGroups(ctx, p.x, p.w1, p.y.dim(0), p.y.dtype()); !s) return s;
    return SkinnyGroups(ctx, p.x, p.w3, p.y.dim(0), p.y.dtype());
  }
  VX_REQUIRE(p.y.dim(0) <= kSkinnyAtMost, "many rows");
  VX_REQUIRE(p.w1[0].data.dtype() == DType::kE4M3, "a weight for all rows must be E4M3");
  if (const Support s = SkinnyOperands(ctx, p.x, p.w1[0], p.y.dtype()); !s) return s;
  return SkinnyOperands(ctx, p.x, p.w3[0], p.y.dtype());
}

cuda::SkinnyCall CallOf(const ExpertGate::Part& p) {
  const cuda::SkinnyCall call = SkinnyCallOf(p.x, p.w1[0], p.y);
  return p.offsets.empty() ? call : WithGroups(call, p.rows, p.offsets, p.y.dim(0));
}

Status RunSkinny(const Context& ctx, const ExpertGate::Part& p) {
  if (p.empty() || p.y.dim(0) == 0) return {};
  const auto w1 = SkinnyWeightsOf(p.w1), w3 = SkinnyWeightsOf(p.w3);
  const auto gate = GateOf<cuda::SkinnyGate>(p);
  return Issued(ExpertGate::kName, p.offsets.empty()
                                       ? cuda::SkinnyGatedLinear(LaunchOf(ctx), CallOf(p), w1[0], w3[0], gate)
                                       : cuda::SkinnyGroupedGate(LaunchOf(ctx), CallOf(p), w1.data(), w3.data(), gate));
}

}  // namespace

Support ExpertGateSkinnySupports(const Context& ctx, const ExpertGate::Args& a) {
  for (const ExpertGate::Part* p : {&a.routed, &a.shared}) {
    if (p->empty()) continue;
    if (const Support s = SkinnyPart(ctx, *p); !s) return s;
  }
  return {};
}

Status ExpertGateSkinny(const Context& ctx, const ExpertGate::Args& a) {
  VX_TRY(RunSkinny(ctx, a.shared));
  return RunSkinny(ctx, a.routed);
}

Support ExpertGateTogetherSupports(const Context& ctx, const ExpertGate::Args& a) {
  VX_REQUIRE(!a.routed.empty() && !a.shared.empty(), "serves routed experts and a shared one");
  if (const Support s = ExpertGateSkinnySupports(ctx, a); !s) return s;
  return SkinnyTogether({CallOf(a.routed), CallOf(a.shared)}, true);
}

Status ExpertGateTogether(const Context& ctx, const ExpertGate::Args& a) {
  const auto w1 = SkinnyWeightsOf(a.routed.w1), w3 = SkinnyWeightsOf(a.routed.w3);
  const auto shared_w1 = SkinnyWeightsOf(a.shared.w1), shared_w3 = SkinnyWeightsOf(a.shared.w3);
  return Issued(ExpertGate::kName,
                cuda::SkinnyExpertsGate(LaunchOf(ctx), {CallOf(a.routed), CallOf(a.shared)}, w1.data(), w3.data(),
                                        GateOf<cuda::SkinnyGate>(a.routed), shared_w1[0], shared_w3[0],
                                        GateOf<cuda::SkinnyGate>(a.shared)));
}

// ---- many rows ----

Support ExpertGateFp8Supports(const Context& ctx, const ExpertGate::Args& a) {
  const ExpertGate::Part& p = a.routed;
  VX_REQUIRE(a.shared.empty() && !p.offsets.empty(), "serves routed experts alone");
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(p.w1.size() <= size_t(cuda::kMatrixExperts), "more than 256 experts");
  VX_REQUIRE(p.y.dim(1) % 128 == 0 && p.y.IsContiguous(), "F is no multiple of 128, or y is strided");
  if (const Support s = MatrixOperands(ctx, p.x, p.w1[0], DType::kE2M1x2, p.y); !s) return s;
  return MatrixOperands(ctx, p.x, p.w3[0], DType::kE2M1x2, p.y);
}

Status ExpertGateFp8(const Context& ctx, const ExpertGate::Args& a) {
  const ExpertGate::Part& p = a.routed;
  const Arena::Scope scope(*ctx.workspace);
  const cuda::MatrixCall call = WithGroups(MatrixCallOf(p.x, p.w1[0]), p.rows, p.offsets, p.y.dim(0));
  const auto w1 = MatrixWeightsOf(p.w1), w3 = MatrixWeightsOf(p.w3);
  void* workspace = ctx.workspace->Allocate(size_t(cuda::GroupedMatrixWorkspace(call, 2)));
  return Issued(ExpertGate::kName, cuda::GroupedMatrixGate(LaunchOf(ctx), call, w1.data(), w3.data(),
                                                           GateOf<cuda::MatrixGate>(p), p.y.mut_raw(), workspace));
}

}  // namespace vexil::gpu
