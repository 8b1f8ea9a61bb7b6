// The two ops, with the lists in memory.
#include "ops/state_attention/state_attention.h"

namespace vexil::gpu {

Support StateAttentionTwoOpsSupports(const Context& ctx, const StateAttention::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status StateAttentionTwoOps(const Context& ctx, const StateAttention::Args& a) { return RunTwoOps(ctx, a); }

}  // namespace vexil::gpu
