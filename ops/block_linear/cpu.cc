#include <numeric>

#include "ops/block_linear/by_linear.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/operands.h"

namespace vexil::cpu {

// One row: its blocks are rows, each with a weight of its own, so the threads share one stream over all weights and
// meet once. Linear and GroupedLinear have the same levels, each with one order of summation: a row's bits are those
// that BlockLinearByLinear gives it among others (docs/decisions/0001-kernel-choice-ignores-the-batch.md).
Support BlockLinearGroupedSupports(const Context& ctx, const BlockLinear::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.x.dim(0) == 1, "more rows than one");
  for (const QuantView& g : a.w) VX_REQUIRE(SameFormat(g, a.w[0]), "weights have different blocks");
  return {};
}

Status BlockLinearGrouped(const Context& ctx, const BlockLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  const int64_t groups = int64_t(a.w.size());
  const MutTensorView offsets = ctx.workspace->NewTensor(DType::kI32, {groups + 1});
  if (!ctx.dry_run) std::iota(offsets.MutData<int32_t>(), offsets.MutData<int32_t>() + groups + 1, 0);
  return Run<GroupedLinear>(ctx, {.x = QuantView(a.x.Reshape({groups, a.w[0].Columns()})),
                                  .rows = {},
                                  .offsets = offsets,
                                  .w = a.w,
                                  .y = a.y.Reshape({groups, a.w[0].data.dim(0)})});
}

// Block by block with the best kernel of Linear.
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
