// Every format and shape: a launch of Linear's kernel per block.
#include "ops/block_linear/by_linear.h"

namespace vexil::gpu {

Status LinearWarp(const Context& ctx, const Linear::Args& a);

Support BlockLinearWarpSupports(const Context&, const BlockLinear::Args&) { return {}; }

Status BlockLinearWarp(const Context& ctx, const BlockLinear::Args& a) { return RunByLinear(ctx, a, LinearWarp); }

}  // namespace vexil::gpu
