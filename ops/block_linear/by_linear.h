// One call of a kernel of Linear per block.
#pragma once

#include "ops/block_linear/block_linear.h"
#include "ops/fault.h"
#include "ops/linear/linear.h"

namespace vexil {

inline Status RunByLinear(const Context& ctx, const BlockLinear::Args& a,
                          Status (*linear)(const Context&, const Linear::Args&)) {
  const int64_t k = a.w[0].Columns(), n = a.w[0].data.dim(0), groups = int64_t(a.w.size());
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t from = VX_FAULT("first_columns") ? 0 : g, weight = VX_FAULT("reversed_weights") ? groups - 1 - g : g;
    VX_TRY(linear(
        ctx,
        {.x = a.x.Columns(from * k, (from + 1) * k), .w = a.w[size_t(weight)], .y = a.y.Columns(g * n, (g + 1) * n)}));
  }
  return {};
}

}  // namespace vexil
