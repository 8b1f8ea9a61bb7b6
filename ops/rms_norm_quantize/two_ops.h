// RmsNormQuantize as a call of each op.
#pragma once

#include "ops/fault.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rms_norm_quantize/rms_norm_quantize.h"

namespace vexil {

inline Support TwoOpsSupport(const Context& ctx) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

inline Status RunTwoOps(const Context& ctx, const RmsNormQuantize::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  const MutTensorView y = ctx.workspace->NewTensor(a.x.dtype(), a.x.dims());
  VX_TRY(Run<RmsNorm>(ctx, {.x = a.x, .weight = a.weight, .y = y, .eps = VX_FAULT("no_eps") ? 0 : a.eps}));
  const TensorView rounded = VX_FAULT("norm_forgotten") ? a.x : y;
  return Run<QuantizeActivation>(ctx, {.x = rounded, .codes = a.codes, .scale = a.scale, .block = a.block});
}

}  // namespace vexil
