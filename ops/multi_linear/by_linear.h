// MultiLinear as calls of QuantizeActivation, Linear and Scale.
#pragma once

#include <algorithm>

#include "ops/fault.h"
#include "ops/linear/linear.h"
#include "ops/linear/operands.h"
#include "ops/multi_linear/multi_linear.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/scale/scale.h"

namespace vexil {

inline Support ByLinearSupport(const Context& ctx, const MultiLinear::Args& a) {
  const auto rounds = [](const MultiLinear::Part& p) { return p.round_x; };
  VX_REQUIRE(ctx.workspace != nullptr || std::none_of(a.list().begin(), a.list().end(), rounds),
             "needs a workspace to round x");
  return {};
}

inline Status RunProduct(const Context& ctx, const MultiLinear::Part& p) {
  if (!p.round_x || VX_FAULT("unrounded_x")) return Run<Linear>(ctx, {.x = p.x, .w = p.w, .y = p.y});
  const Arena::Scope scope(*ctx.workspace);
  const int64_t n = p.x.data.dim(0), k = p.x.Columns();
  const MutTensorView codes = ctx.workspace->NewTensor(DType::kE4M3, {n, k});
  const MutTensorView scale = ctx.workspace->NewTensor(DType::kE8M0, {n, CeilDiv(k, kE4M3Block)});
  VX_TRY(Run<QuantizeActivation>(ctx, {.x = p.x.data, .codes = codes, .scale = scale, .block = kE4M3Block}));
  return Run<Linear>(ctx, {.x = QuantView(codes, scale, 1, kE4M3Block), .w = p.w, .y = p.y});
}

inline Status RunByLinear(const Context& ctx, const MultiLinear::Args& a) {
  const int count = VX_FAULT("last_part_missing") ? a.count - 1 : a.count;
  for (const MultiLinear::Part& p : a.list().first(size_t(count))) {
    VX_TRY(RunProduct(ctx, p));
    const float factor = VX_FAULT("factor_of_first") ? a.parts[0].factor : p.factor;
    if (factor != 1) VX_TRY(Run<Scale>(ctx, {.x = p.y, .factor = factor, .y = p.y}));
  }
  return {};
}

}  // namespace vexil
