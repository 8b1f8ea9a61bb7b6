#include "ops/fault.h"
#include "ops/hc_boundary/hc_boundary.h"

namespace vexil::cpu {

// The best kernels of the four ops, for all tokens each: in tiles of tokens, which would stay in a cache, they gain
// little (docs/performance.md).
Support HcBoundaryByOpsSupports(const Context& ctx, const HcBoundary::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status HcBoundaryByOps(const Context& ctx, const HcBoundary::Args& a) { return RunByOps(ctx, a); }

Support HcBoundaryPlainSupports(const Context&, const HcBoundary::Args&) { return {}; }

Status HcBoundaryPlain(const Context& ctx, const HcBoundary::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  HcBoundary::Args call = a;
  if (VX_FAULT("without_post")) call.y = call.y_post = call.y_comb = {};
  if (VX_FAULT("without_codes")) call.codes = call.codes_scale = {};
  return RunByOps(inside, call);
}

}  // namespace vexil::cpu
