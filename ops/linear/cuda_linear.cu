// Linear on the Hopper kernels.
#include "ops/linear/cuda_glue.h"
#include "ops/linear/linear.h"

namespace vexil::gpu {

Support LinearSkinnySupports(const Context& ctx, const Linear::Args& a) {
  return SkinnyOperands(ctx, a.x, a.w, a.y.dtype());
}

Status LinearSkinny(const Context& ctx, const Linear::Args& a) {
  if (a.x.data.dim(0) == 0) return {};
  return Issued(Linear::kName,
                cuda::SkinnyLinear(LaunchOf(ctx), SkinnyCallOf(a.x, a.w, a.y), {a.w.data.raw(), a.w.scale.raw()}));
}

Support LinearFp8Supports(const Context& ctx, const Linear::Args& a) {
  VX_REQUIRE(a.x.data.dim(0) > kSkinnyAtMost, "few rows");
  VX_REQUIRE(a.w.data.dim(0) % 8 == 0, "N is no multiple of 8");
  return MatrixOperands(ctx, a.x, a.w, DType::kE4M3, a.y);
}

Status LinearFp8(const Context& ctx, const Linear::Args& a) {
  const cuda::MatrixWeight w{a.w.data.raw(), static_cast<const uint8_t*>(a.w.scale.raw())};
  return Issued(Linear::kName,
                cuda::MatrixLinear(LaunchOf(ctx), MatrixCallOf(a.x, a.w), w, a.y.mut_raw(), a.y.stride(0)));
}

Support LinearBf16Supports(const Context& ctx, const Linear::Args& a) { return Bf16Operands(ctx, a.x, a.w, a.y); }

Status LinearBf16(const Context& ctx, const Linear::Args& a) {
  const cuda::Bf16Matrix w = Bf16MatrixOf(a.w);
  return RunBf16(ctx, Linear::kName, Bf16CallOf(a.x, a.w, a.y), &w);
}

}  // namespace vexil::gpu
