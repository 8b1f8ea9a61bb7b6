// The two products, then Swiglu.
#pragma once

#include "ops/expert_gate/expert_gate.h"
#include "ops/fault.h"

namespace vexil {

inline Status MultiplyExperts(const Context& ctx, const ExpertGate::Part& p, std::span<const QuantView> w,
                              MutTensorView y) {
  if (p.offsets.empty()) return Run<Linear>(ctx, {.x = p.x, .w = w[0], .y = y});
  return Run<GroupedLinear>(ctx, p.Product(w, y));
}

inline Status GatePartByOps(const Context& ctx, const ExpertGate::Part& p) {
  if (p.empty()) return {};
  const Arena::Scope scope(*ctx.workspace);
  const MutTensorView up = ctx.workspace->NewTensor(p.y.dtype(), p.y.dims());
  VX_TRY(MultiplyExperts(ctx, p, p.w1, p.y));
  VX_TRY(MultiplyExperts(ctx, p, VX_FAULT("gate_twice") ? p.w1 : p.w3, up));
  return VX_FAULT("swapped_products") ? Run<Swiglu>(ctx, p.Activation(up, p.y))
                                      : Run<Swiglu>(ctx, p.Activation(p.y, up));
}

inline Status GateByOps(const Context& ctx, const ExpertGate::Args& a) {
  VX_TRY(GatePartByOps(ctx, a.routed));
  return VX_FAULT("no_shared_expert") ? Status() : GatePartByOps(ctx, a.shared);
}

}  // namespace vexil
