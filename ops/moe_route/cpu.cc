#include "ops/fault.h"
#include "ops/moe_route/moe_route.h"

namespace vexil::cpu {

static Status Route(const Context& ctx, const MoeRoute::Args& a) {
  VX_TRY(Run<MoeGate>(ctx, a.gate));
  return VX_FAULT("not_dispatched") ? Status() : Run<MoeDispatch>(ctx, a.dispatch());
}

Support MoeRouteOpsSupports(const Context&, const MoeRoute::Args&) { return {}; }

Status MoeRouteOps(const Context& ctx, const MoeRoute::Args& a) { return Route(ctx, a); }

Support MoeRoutePlainSupports(const Context&, const MoeRoute::Args&) { return {}; }

Status MoeRoutePlain(const Context& ctx, const MoeRoute::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  return Route(inside, a);
}

}  // namespace vexil::cpu
