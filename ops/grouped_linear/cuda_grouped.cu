// GroupedLinear on the Hopper kernels.
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/cuda_glue.h"

namespace vexil::gpu {

Support GroupedLinearFp8Supports(const Context& ctx, const GroupedLinear::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.w.size() <= size_t(cuda::kMatrixExperts), "more than 256 experts");
  VX_REQUIRE(a.y.dim(1) % 128 == 0 && a.y.IsContiguous(), "N is no multiple of 128, or y is strided");
  return MatrixOperands(ctx, a.x, a.w[0], DType::kE2M1x2, a.y);
}

Support GroupedLinearSkinnySupports(const Context& ctx, const GroupedLinear::Args& a) {
  VX_REQUIRE(a.x.data.dtype() == DType::kE4M3, "x must be E4M3");
  VX_REQUIRE(a.y.dim(0) <= kSkinnyPairs || !GroupedLinearFp8Supports(ctx, a), "many pairs");
  return SkinnyGroups(ctx, a.x, a.w, a.y.dim(0), a.y.dtype());
}

Status GroupedLinearSkinny(const Context& ctx, const GroupedLinear::Args& a) {
  if (a.y.dim(0) == 0) return {};
  const auto w = SkinnyWeightsOf(a.w);
  const cuda::SkinnyCall call = WithGroups(SkinnyCallOf(a.x, a.w[0], a.y), a.rows, a.offsets, a.y.dim(0));
  return Issued(GroupedLinear::kName, cuda::SkinnyGroupedLinear(LaunchOf(ctx), call, w.data()));
}

Status GroupedLinearFp8(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  const cuda::MatrixCall call = WithGroups(MatrixCallOf(a.x, a.w[0]), a.rows, a.offsets, a.y.dim(0));
  const auto w = MatrixWeightsOf(a.w);
  void* workspace = ctx.workspace->Allocate(size_t(cuda::GroupedMatrixWorkspace(call, 1)));
  return Issued(GroupedLinear::kName,
                cuda::GroupedMatrixLinear(LaunchOf(ctx), call, w.data(), a.y.mut_raw(), workspace));
}

}  // namespace vexil::gpu
