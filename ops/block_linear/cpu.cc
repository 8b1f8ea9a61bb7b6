#include "ops/block_linear/by_linear.h"

namespace vexil::cpu {

// Block by block with the best kernel of Linear. A block of V4-Flash has 4 MB of weights, enough to keep all threads
// busy, so one call for all of them would save little.
Support BlockLinearByLinearSupports(const Context& ctx, const BlockLinear::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status BlockLinearByLinear(const Context& ctx, const BlockLinear::Args& a) { return RunByLinear(ctx, a, Run<Linear>); }

Status LinearPlain(const Context& ctx, const Linear::Args& a);

Support BlockLinearPlainSupports(const Context& ctx, const BlockLinear::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status BlockLinearPlain(const Context& ctx, const BlockLinear::Args& a) { return RunByLinear(ctx, a, LinearPlain); }

}  // namespace vexil::cpu
