#include "ops/rms_norm_quantize/two_ops.h"

namespace vexil::cpu {

Support RmsNormQuantizeTwoOpsSupports(const Context& ctx, const RmsNormQuantize::Args&) { return TwoOpsSupport(ctx); }

Status RmsNormQuantizeTwoOps(const Context& ctx, const RmsNormQuantize::Args& a) { return RunTwoOps(ctx, a); }

Support RmsNormQuantizePlainSupports(const Context& ctx, const RmsNormQuantize::Args&) { return TwoOpsSupport(ctx); }

Status RmsNormQuantizePlain(const Context& ctx, const RmsNormQuantize::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  return RunTwoOps(inside, a);
}

}  // namespace vexil::cpu
