// The ops that this one is made of. Of a call for routed experts and the shared one each half gets its best kernel.
#include "ops/expert_down/by_ops.h"
#include "ops/linear/gpu_dot.cuh"

namespace vexil::gpu {

Support ExpertDownOpsSupports(const Context& ctx, const ExpertDown::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  for (const ExpertDown::Part* p : {&a.routed, &a.shared}) {
    if (p->empty()) continue;
    const DType x = p->round ? DType::kE4M3 : p->x.data.dtype();
    if (const Support s = WarpOperands(x, p->w2[0].data.dtype()); !s) return s;
  }
  return {};
}

Status ExpertDownOps(const Context& ctx, const ExpertDown::Args& a) {
  if (a.routed.empty() || a.shared.empty()) return DownByOps(ctx, a);
  VX_TRY(Run<ExpertDown>(ctx, {.shared = a.shared}));
  return Run<ExpertDown>(ctx, {.routed = a.routed});
}

}  // namespace vexil::gpu
