// Part by part, with the best kernels: every format and number of rows.
#include "ops/multi_linear/by_linear.h"

namespace vexil::gpu {

Support MultiLinearByLinearSupports(const Context& ctx, const MultiLinear::Args& a) { return ByLinearSupport(ctx, a); }

Status MultiLinearByLinear(const Context& ctx, const MultiLinear::Args& a) { return RunByLinear(ctx, a); }

}  // namespace vexil::gpu
