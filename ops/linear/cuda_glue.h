// Which calls of Linear and GroupedLinear the Hopper kernels take (cuda_skinny.h, cuda_matrix.h), and their arguments.
#pragma once

#include <array>
#include <optional>
#include <span>

#include "ops/cuda/glue.h"
#include "ops/linear/cuda_bf16.h"
#include "ops/linear/cuda_experts.h"
#include "ops/linear/cuda_matrix.h"
#include "ops/linear/cuda_skinny.h"
#include "ops/linear/operands.h"

namespace vexil::gpu {

inline constexpr int64_t kSkinnyAtMost = 64;   // rows: beyond, the matrix kernels are faster where they apply
inline constexpr int64_t kSkinnyPairs = 4096;  // the same for all groups together

inline std::optional<cuda::SkinnyWeight> SkinnyWeightOf(DType t) {
  switch (t) {
    case DType::kE4M3:
      return cuda::SkinnyWeight::kE4M3;
    case DType::kE2M1x2:
      return cuda::SkinnyWeight::kE2M1;
    case DType::kBF16:
      return cuda::SkinnyWeight::kBF16;
    case DType::kI8:
      return cuda::SkinnyWeight::kI8;
    default:
      return std::nullopt;
  }
}

inline Support SkinnyOperands(const Context& ctx, const QuantView& x, const QuantView& w, DType y) {
  VX_REQUIRE(IsHopper(ctx), "needs a Hopper GPU");
  const DType xt = x.data.dtype(), wt = w.data.dtype();
  const int64_t k = x.Columns();
  VX_REQUIRE((xt == DType::kE4M3 && (wt == DType::kE4M3 || wt == DType::kE2M1x2)) ||
                 (xt == DType::kBF16 && (wt == DType::kE4M3 || wt == DType::kBF16 || wt == DType::kI8)),
             "takes E4M3 with E4M3 or E2M1, and BF16 with E4M3, BF16 or I8");
  VX_REQUIRE(wt != DType::kI8 || (y == DType::kBF16 && w.scale.dtype() == DType::kF32),
             "I8 needs F32 scales and a BF16 result");
  VX_REQUIRE(k % (wt == DType::kE2M1x2 ? 512
                  : wt == DType::kBF16 ? 64
                                       : 128) ==
                 0,
             "K is no multiple of what a stage takes");
  VX_REQUIRE(Fits16Bytes(x.data) && Fits16Bytes(w.data), "operands are not aligned to 16 bytes");
  VX_REQUIRE(wt != DType::kE2M1x2 || Fits16Bytes(w.scale), "scales are not aligned to 16 bytes");
  return {};
}

inline cuda::SkinnyCall SkinnyCallOf(const QuantView& x, const QuantView& w, const MutTensorView& y) {
  cuda::SkinnyCall c;
  c.weight = *SkinnyWeightOf(w.data.dtype());
  c.input = x.data.dtype() == DType::kE4M3 ? cuda::SkinnyInput::kE4M3 : cuda::SkinnyInput::kBF16;
  c.n_out = int(w.data.dim(0));
  c.k = int(x.Columns());
  c.x = x.data.raw();
  c.x_stride = x.data.stride(0) * BytesOf(x.data.dtype());
  c.x_scale = static_cast<const uint8_t*>(x.scale.raw());
  c.x_scale_stride = x.scale.empty() ? 0 : x.scale.stride(0);
  c.scale_rows = int(w.block_rows);
  c.y = y.mut_raw();
  c.y_stride = y.stride(0);
  c.y_f32 = y.dtype() == DType::kF32;
  c.n = int(x.data.dim(0));
  return c;
}

// With one weight per group of rows: `pairs` rows in all.
inline Support SkinnyGroups(const Context& ctx, const QuantView& x, std::span<const QuantView> w, int64_t pairs,
                            DType y) {
  VX_REQUIRE(w.size() <= size_t(cuda::kSkinnyExperts) && pairs / 8 + int64_t(w.size()) <= cuda::kSkinnyChunks,
             "too many experts or pairs");
  for (const QuantView& e : w) {
    if (const Support s = SkinnyOperands(ctx, x, e, y); !s) return s;
  }
  return {};
}

// Adds the groups of a call to `c`, a SkinnyCall or MatrixCall.
template <class Call>
Call WithGroups(Call c, const TensorView& rows, const TensorView& offsets, int64_t pairs) {
  c.rows = rows.empty() ? nullptr : DataOf<int32_t>(rows);
  c.offsets = DataOf<int32_t>(offsets);
  c.experts = int(offsets.dim(0)) - 1;
  c.pairs = int(pairs);
  return c;
}

// Whether routed experts and a shared one, which the launches of cuda_skinny.h take one by one, can share one.
inline Support SkinnyTogether(const cuda::SkinnyExperts& c, bool gate) {
  VX_REQUIRE(c.routed.offsets != nullptr && c.shared.offsets == nullptr, "takes groups and a weight for all rows");
  VX_REQUIRE(c.routed.weight == cuda::SkinnyWeight::kE2M1 && c.shared.weight == cuda::SkinnyWeight::kE4M3,
             "takes routed experts in E2M1 and a shared one in E4M3");
  VX_REQUIRE(c.routed.input == c.shared.input && c.routed.n_out == c.shared.n_out && c.routed.k == c.shared.k,
             "the shared expert has another shape or input");
  VX_REQUIRE(c.routed.pairs > 0 && c.shared.n > 0 && c.shared.n <= cuda::kSkinnyTogether, "no rows, or many");
  VX_REQUIRE(cuda::SkinnyExpertsFit(c, gate), "rows are too long");
  return {};
}

// The experts' weights as the launchers of groups take them.
template <class Weight, size_t kMost>
std::array<Weight, kMost> WeightsOf(std::span<const QuantView> views) {
  std::array<Weight, kMost> w = {};
  for (size_t e = 0; e < views.size(); ++e)
    w[e] = {views[e].data.raw(), static_cast<const uint8_t*>(views[e].scale.raw())};
  return w;
}
inline auto SkinnyWeightsOf(std::span<const QuantView> w) {
  return WeightsOf<cuda::SkinnyMatrix, cuda::kSkinnyExperts>(w);
}
inline auto MatrixWeightsOf(std::span<const QuantView> w) {
  return WeightsOf<cuda::MatrixWeight, cuda::kMatrixExperts>(w);
}

inline Support MatrixOperands(const Context& ctx, const QuantView& x, const QuantView& w, DType weight,
                              const TensorView& y) {
  VX_REQUIRE(IsHopper(ctx), "needs a Hopper GPU");
  VX_REQUIRE(x.data.dtype() == DType::kE4M3 && w.data.dtype() == weight && y.dtype() == DType::kBF16,
             "takes E4M3 rows, another weight format or result");
  VX_REQUIRE(weight != DType::kE4M3 || w.block_rows == kE4M3Block, "weight scales are per row");
  VX_REQUIRE(x.Columns() % kE4M3Block == 0, "K is no multiple of 128");
  VX_REQUIRE(Fits16Bytes(x.data) && Fits16Bytes(w.data) && Fits16Bytes(y), "operands are not aligned to 16 bytes");
  return {};
}

inline cuda::MatrixCall MatrixCallOf(const QuantView& x, const QuantView& w) {
  cuda::MatrixCall c;
  c.n_out = int(w.data.dim(0));
  c.k = int(x.Columns());
  c.x = static_cast<const uint8_t*>(x.data.raw());
  c.x_stride = x.data.stride(0);
  c.x_scale = static_cast<const uint8_t*>(x.scale.raw());
  c.x_scale_stride = x.scale.stride(0);
  c.n = int(x.data.dim(0));
  return c;
}

inline Support Bf16Operands(const Context& ctx, const QuantView& x, const QuantView& w, const TensorView& y) {
  VX_REQUIRE(IsHopper(ctx), "needs a Hopper GPU");
  VX_REQUIRE(x.data.dim(0) > kSkinnyAtMost, "few rows");
  const DType wt = w.data.dtype();
  VX_REQUIRE(x.data.dtype() == DType::kBF16 && (wt == DType::kBF16 || wt == DType::kE4M3),
             "takes BF16 with BF16 or E4M3");
  VX_REQUIRE(x.Columns() % 64 == 0 && w.data.dim(0) % 8 == 0, "K is no multiple of 64, or N none of 8");
  VX_REQUIRE(Fits16Bytes(x.data) && Fits16Bytes(w.data) && Fits16Bytes(y), "operands are not aligned to 16 bytes");
  return {};
}

inline cuda::Bf16Call Bf16CallOf(const QuantView& x, const QuantView& w, const MutTensorView& y) {
  cuda::Bf16Call c;
  c.weight = w.data.dtype() == DType::kBF16 ? cuda::Bf16Weight::kBF16 : cuda::Bf16Weight::kE4M3;
  c.n_out = int(w.data.dim(0));
  c.k = int(x.Columns());
  c.n = int(x.data.dim(0));
  c.x = x.data.raw();
  c.x_stride = x.data.stride(0) * BytesOf(x.data.dtype());
  c.row_scales = w.data.dtype() == DType::kE4M3 && w.block_rows == 1;
  c.y = y.mut_raw();
  c.y_stride = y.stride(0);
  c.y_f32 = y.dtype() == DType::kF32;
  return c;
}
inline cuda::Bf16Matrix Bf16MatrixOf(const QuantView& w) {
  return {w.data.raw(), static_cast<const uint8_t*>(w.scale.raw())};
}

// `w`: one for each part.
inline Status RunBf16(const Context& ctx, std::string_view op, const cuda::Bf16Call& c, const cuda::Bf16Matrix* w) {
  const int64_t bytes = cuda::Bf16Workspace(c);
  if (bytes == 0 || ctx.workspace == nullptr) return Issued(op, cuda::Bf16Linear(LaunchOf(ctx), c, w, nullptr));
  const Arena::Scope scope(*ctx.workspace);
  return Issued(op, cuda::Bf16Linear(LaunchOf(ctx), c, w, ctx.workspace->Allocate(size_t(bytes))));
}

}  // namespace vexil::gpu
