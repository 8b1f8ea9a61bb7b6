#include "ops/finish_rows/by_ops.h"

namespace vexil::cpu {

Support FinishRowsByOpsSupports(const Context&, const FinishRows::Args&) { return {}; }

// With the best kernel of each op: a token's rows are still in the cache for the next.
Status FinishRowsByOps(const Context& ctx, const FinishRows::Args& a) { return FinishByOps(ctx, a); }

Support FinishRowsPlainSupports(const Context&, const FinishRows::Args&) { return {}; }

Status FinishRowsPlain(const Context& ctx, const FinishRows::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  return FinishByOps(inside, a);
}

}  // namespace vexil::cpu
