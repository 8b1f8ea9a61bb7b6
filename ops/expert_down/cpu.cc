#include "ops/expert_down/by_ops.h"

namespace vexil::cpu {

// The best kernels of the ops that this one is made of.
Support ExpertDownOpsSupports(const Context& ctx, const ExpertDown::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status ExpertDownOps(const Context& ctx, const ExpertDown::Args& a) { return DownByOps(ctx, a); }

Support ExpertDownPlainSupports(const Context& ctx, const ExpertDown::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status ExpertDownPlain(const Context& ctx, const ExpertDown::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  return DownByOps(inside, a);
}

}  // namespace vexil::cpu
