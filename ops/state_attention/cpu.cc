#include "ops/state_attention/state_attention.h"

namespace vexil::cpu {

Support StateAttentionTwoOpsSupports(const Context& ctx, const StateAttention::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status StateAttentionTwoOps(const Context& ctx, const StateAttention::Args& a) { return RunTwoOps(ctx, a); }

Support StateAttentionPlainSupports(const Context& ctx, const StateAttention::Args& a) {
  return StateAttentionTwoOpsSupports(ctx, a);
}

Status StateAttentionPlain(const Context& ctx, const StateAttention::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  return RunTwoOps(inside, a);
}

}  // namespace vexil::cpu
