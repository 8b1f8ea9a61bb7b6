// GroupedLinear on the Hopper kernels.
#include <array>

#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/cuda_glue.h"

namespace vexil::gpu {
namespace {

// Pairs beyond which an expert has enough rows for the matrix kernels.
constexpr int64_t kSkinnyPairs = 512;

template <class Call>
Call WithGroups(Call c, const GroupedLinear::Args& a) {
  c.rows = a.rows.empty() ? nullptr : DataOf<int32_t>(a.rows);
  c.offsets = DataOf<int32_t>(a.offsets);
  c.experts = int(a.w.size());
  c.pairs = int(a.y.dim(0));
  return c;
}

template <class Weight, size_t kMost>
std::array<Weight, kMost> WeightsOf(const GroupedLinear::Args& a) {
  std::array<Weight, kMost> w = {};
  for (size_t e = 0; e < a.w.size(); ++e) w[e] = {a.w[e].data.raw(), static_cast<const uint8_t*>(a.w[e].scale.raw())};
  return w;
}

}  // namespace

Support GroupedLinearSkinnySupports(const Context& ctx, const GroupedLinear::Args& a) {
  VX_REQUIRE(a.x.data.dtype() == DType::kE4M3, "x must be E4M3");
  VX_REQUIRE(a.w.size() <= size_t(cuda::kSkinnyExperts) && a.y.dim(0) / 8 + int64_t(a.w.size()) <= 1024,
             "too many experts or pairs");
  for (const QuantView& w : a.w) {
    if (const Support s = SkinnyOperands(ctx, a.x, w, a.y.dtype()); !s) return s;
  }
  return {};
}

Status GroupedLinearSkinny(const Context& ctx, const GroupedLinear::Args& a) {
  if (a.y.dim(0) == 0) return {};
  const auto w = WeightsOf<cuda::SkinnyMatrix, cuda::kSkinnyExperts>(a);
  return Issued(GroupedLinear::kName,
                cuda::SkinnyGroupedLinear(LaunchOf(ctx), WithGroups(SkinnyCallOf(a.x, a.w[0], a.y), a), w.data()));
}

Support GroupedLinearFp8Supports(const Context& ctx, const GroupedLinear::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.y.dim(0) > kSkinnyPairs, "few pairs");
  VX_REQUIRE(a.w.size() <= size_t(cuda::kMatrixExperts), "more than 256 experts");
  VX_REQUIRE(a.y.dim(1) % 128 == 0 && a.y.IsContiguous(), "N is no multiple of 128, or y is strided");
  return MatrixOperands(ctx, a.x, a.w[0], DType::kE2M1x2, a.y);
}

Status GroupedLinearFp8(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  const cuda::MatrixCall call = WithGroups(MatrixCallOf(a.x, a.w[0]), a);
  const auto w = WeightsOf<cuda::MatrixWeight, cuda::kMatrixExperts>(a);
  void* workspace = ctx.workspace->Allocate(size_t(cuda::GroupedMatrixWorkspace(call, 1)));
  return Issued(GroupedLinear::kName,
                cuda::GroupedMatrixLinear(LaunchOf(ctx), call, w.data(), a.y.mut_raw(), workspace));
}

}  // namespace vexil::gpu
