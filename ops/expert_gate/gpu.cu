// The ops that this one is made of. Of a call for routed experts and the shared one each half gets its best kernel.
#include "ops/expert_gate/by_ops.h"
#include "ops/linear/gpu_dot.cuh"

namespace vexil::gpu {

Support ExpertGateOpsSupports(const Context& ctx, const ExpertGate::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  for (const ExpertGate::Part* p : {&a.routed, &a.shared}) {
    if (p->empty()) continue;
    if (const Support s = WarpOperands(p->x.data.dtype(), p->w1[0].data.dtype()); !s) return s;
    if (const Support s = WarpOperands(p->x.data.dtype(), p->w3[0].data.dtype()); !s) return s;
  }
  return {};
}

Status ExpertGateOps(const Context& ctx, const ExpertGate::Args& a) {
  if (a.routed.empty() || a.shared.empty()) return GateByOps(ctx, a);
  VX_TRY(Run<ExpertGate>(ctx, {.shared = a.shared}));
  return Run<ExpertGate>(ctx, {.routed = a.routed});
}

}  // namespace vexil::gpu
