// Every format and shape: a launch of Linear's kernel per block.
#include "ops/block_linear/by_linear.h"
#include "ops/linear/gpu_dot.cuh"

namespace vexil::gpu {

Status LinearWarp(const Context& ctx, const Linear::Args& a);

Support BlockLinearWarpSupports(const Context&, const BlockLinear::Args& a) {
  return WarpOperands(a.x.dtype(), a.w[0].data.dtype());
}

Status BlockLinearWarp(const Context& ctx, const BlockLinear::Args& a) { return RunByLinear(ctx, a, LinearWarp); }

}  // namespace vexil::gpu
