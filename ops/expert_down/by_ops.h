// QuantizeActivation where asked for, then the product.
#pragma once

#include "ops/expert_down/expert_down.h"
#include "ops/fault.h"
#include "ops/linear/operands.h"
#include "ops/quantize_activation/quantize_activation.h"

namespace vexil {

inline Status DownPartByOps(const Context& ctx, const ExpertDown::Part& p) {
  if (p.empty()) return {};
  const Arena::Scope scope(*ctx.workspace);
  QuantView x = p.x;
  if (p.round && !VX_FAULT("not_rounded")) {
    const int64_t rows = p.x.data.dim(0), width = p.x.data.dim(1);
    const MutTensorView codes = ctx.workspace->NewTensor(DType::kE4M3, {rows, width});
    const MutTensorView scale = ctx.workspace->NewTensor(DType::kE8M0, {rows, CeilDiv(width, kE4M3Block)});
    VX_TRY(Run<QuantizeActivation>(ctx, {.x = p.x.data, .codes = codes, .scale = scale, .block = kE4M3Block}));
    x = QuantView(codes, scale, 1, kE4M3Block);
  }
  if (p.offsets.empty()) return Run<Linear>(ctx, {.x = x, .w = p.w2[0], .y = p.y});
  return Run<GroupedLinear>(ctx, {.x = x, .rows = {}, .offsets = p.offsets, .w = p.w2, .y = p.y});
}

inline Status DownByOps(const Context& ctx, const ExpertDown::Args& a) {
  VX_TRY(DownPartByOps(ctx, a.routed));
  return VX_FAULT("no_shared_expert") ? Status() : DownPartByOps(ctx, a.shared);
}

}  // namespace vexil
