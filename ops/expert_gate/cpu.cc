#include "ops/expert_gate/by_ops.h"

namespace vexil::cpu {

// The best kernels of the ops that this one is made of.
Support ExpertGateOpsSupports(const Context& ctx, const ExpertGate::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status ExpertGateOps(const Context& ctx, const ExpertGate::Args& a) { return GateByOps(ctx, a); }

Support ExpertGatePlainSupports(const Context& ctx, const ExpertGate::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status ExpertGatePlain(const Context& ctx, const ExpertGate::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  return GateByOps(inside, a);
}

}  // namespace vexil::cpu
