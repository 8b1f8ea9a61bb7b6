#include "ops/multi_linear/by_linear.h"

namespace vexil::cpu {

// Part by part with the best kernels. The weights of a part are many times what the start of a call costs.
Support MultiLinearByLinearSupports(const Context& ctx, const MultiLinear::Args& a) { return ByLinearSupport(ctx, a); }

Status MultiLinearByLinear(const Context& ctx, const MultiLinear::Args& a) { return RunByLinear(ctx, a); }

Support MultiLinearPlainSupports(const Context& ctx, const MultiLinear::Args& a) { return ByLinearSupport(ctx, a); }

Status MultiLinearPlain(const Context& ctx, const MultiLinear::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  return RunByLinear(inside, a);
}

}  // namespace vexil::cpu
