// MultiLinear on the Hopper kernel for few rows.
#include "ops/linear/cuda_glue.h"
#include "ops/multi_linear/cuda_few_rows.h"
#include "ops/multi_linear/multi_linear.h"

namespace vexil::gpu {
namespace {

bool SameInput(const QuantView& a, const QuantView& b) {
  return a.data.raw() == b.data.raw() && a.data.stride(0) == b.data.stride(0) && a.scale.raw() == b.scale.raw() &&
         (a.scale.empty() || a.scale.stride(0) == b.scale.stride(0));
}

cuda::FewRowsFormat FormatOf(const MultiLinear::Part& p) {
  if (p.w.data.dtype() == DType::kBF16) return cuda::FewRowsFormat::kBF16;
  if (p.round_x) return cuda::FewRowsFormat::kE4M3Rounding;
  return p.x.data.dtype() == DType::kBF16 ? cuda::FewRowsFormat::kE4M3ByBF16 : cuda::FewRowsFormat::kE4M3;
}

cuda::FewRowsInput InputOf(const QuantView& x) {
  return {x.data.raw(), x.data.stride(0) * BytesOf(x.data.dtype()), static_cast<const uint8_t*>(x.scale.raw()),
          x.scale.empty() ? 0 : x.scale.stride(0)};
}

}  // namespace

Support MultiLinearFewRowsSupports(const Context& ctx, const MultiLinear::Args& a) {
  VX_REQUIRE(a.parts[0].y.dim(0) <= kSkinnyAtMost, "more than 64 rows");
  for (const MultiLinear::Part& p : a.list()) {
    const DType w = p.w.data.dtype();
    VX_REQUIRE(w == DType::kE4M3 || w == DType::kBF16, "weights must be E4M3 or BF16");
    if (const Support s = SkinnyOperands(ctx, p.x, p.w, p.y.dtype()); !s) return s;
    VX_REQUIRE(!p.round_x || w == DType::kE4M3, "rounds x for E4M3 weights");
    VX_REQUIRE(p.x.Columns() == a.parts[0].x.Columns(), "parts have different K");
    VX_REQUIRE(p.x.Columns() % kE4M3Block == 0 && p.x.Columns() <= cuda::kFewRowsMaxK,
               "K is no multiple of 128 or beyond 8192");
    for (const MultiLinear::Part& q : a.list()) {
      VX_REQUIRE(q.x.data.dtype() != p.x.data.dtype() || SameInput(q.x, p.x), "inputs of one format differ");
    }
  }
  return {};
}

Status MultiLinearFewRows(const Context& ctx, const MultiLinear::Args& a) {
  cuda::FewRowsCall c = {};
  c.n = int(a.parts[0].y.dim(0));
  c.k = int(a.parts[0].x.Columns());
  for (const MultiLinear::Part& p : a.list()) {
    c.part[c.parts++] = {.format = FormatOf(p),
                         .y_f32 = p.y.dtype() == DType::kF32,
                         .n_out = int(p.w.data.dim(0)),
                         .scale_rows = int(p.w.block_rows),
                         .w = {p.w.data.raw(), p.w.scale.raw()},
                         .y = p.y.mut_raw(),
                         .y_stride = p.y.stride(0),
                         .factor = p.factor};
    (p.x.data.dtype() == DType::kE4M3 ? c.codes : c.values) = InputOf(p.x);
  }
  return Issued(MultiLinear::kName, cuda::FewRowsLinear(LaunchOf(ctx), c));
}

}  // namespace vexil::gpu
