// BlockLinear on the Hopper kernels for few and for many rows, all blocks in one launch (ops/linear/cuda_skinny.cu,
// cuda_bf16.cu).
#include <array>

#include "ops/block_linear/block_linear.h"
#include "ops/linear/cuda_glue.h"

namespace vexil::gpu {

Support BlockLinearSkinnySupports(const Context& ctx, const BlockLinear::Args& a) {
  VX_REQUIRE(a.x.dtype() == DType::kBF16, "x must be BF16");
  VX_REQUIRE(a.w.size() <= size_t(cuda::kSkinnyParts), "more than 16 blocks");
  const DType w = a.w[0].data.dtype();
  VX_REQUIRE(w == DType::kE4M3 || w == DType::kBF16, "weights must be E4M3 or BF16");
  for (const QuantView& g : a.w) {
    VX_REQUIRE(Fits16Bytes(g.data), "weights are not aligned to 16 bytes");
    VX_REQUIRE(SameFormat(g, a.w[0]), "weights have different blocks");
  }
  return SkinnyOperands(ctx, a.x.Columns(0, a.w[0].Columns()), a.w[0], a.y.dtype());
}

Status BlockLinearSkinny(const Context& ctx, const BlockLinear::Args& a) {
  if (a.x.dim(0) == 0) return {};
  const int64_t k = a.w[0].Columns(), n = a.w[0].data.dim(0);
  cuda::SkinnyCall c = SkinnyCallOf(a.x.Columns(0, k), a.w[0], a.y.Columns(0, n));
  c.parts = int(a.w.size());
  c.x_part_stride = k * BytesOf(a.x.dtype());
  c.y_part_stride = n;
  std::array<cuda::SkinnyMatrix, cuda::kSkinnyParts> w = {};
  for (size_t g = 0; g < a.w.size(); ++g) w[g] = {a.w[g].data.raw(), a.w[g].scale.raw()};
  return Issued(BlockLinear::kName, cuda::SkinnyPartsLinear(LaunchOf(ctx), c, w.data()));
}

Support BlockLinearBf16Supports(const Context& ctx, const BlockLinear::Args& a) {
  VX_REQUIRE(a.w.size() <= size_t(cuda::kBf16Parts), "more than 16 blocks");
  for (const QuantView& g : a.w) {
    VX_REQUIRE(Fits16Bytes(g.data), "weights are not aligned to 16 bytes");
    VX_REQUIRE(SameFormat(g, a.w[0]), "weights have different blocks");
  }
  return Bf16Operands(ctx, a.x.Columns(0, a.w[0].Columns()), a.w[0], a.y);
}

Status BlockLinearBf16(const Context& ctx, const BlockLinear::Args& a) {
  const int64_t k = a.w[0].Columns(), n = a.w[0].data.dim(0);
  cuda::Bf16Call c = Bf16CallOf(a.x.Columns(0, k), a.w[0], a.y.Columns(0, n));
  c.parts = int(a.w.size());
  std::array<cuda::Bf16Matrix, cuda::kBf16Parts> w = {};
  for (size_t g = 0; g < a.w.size(); ++g) w[g] = Bf16MatrixOf(a.w[g]);
  return RunBf16(ctx, BlockLinear::kName, c, w.data());
}

}  // namespace vexil::gpu
