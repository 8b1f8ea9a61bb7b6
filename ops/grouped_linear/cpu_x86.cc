// GroupedLinear with x86 instructions that multiply BF16 or int8.
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/product_amx.h"
#include "ops/linear/product_amx_int8.h"
#include "ops/linear/product_avx512bf16.h"

#if defined(__x86_64__)
namespace vexil::cpu {

Support GroupedLinearAmxSupports(const Context& ctx, const GroupedLinear::Args& a) {
  return AmxSupports(ctx, a.x, a.w[0], a.y.dtype());
}
Status GroupedLinearAmx(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyAmx(ctx, ProductOf(ctx, a));
}

Support GroupedLinearAmxInt8Supports(const Context& ctx, const GroupedLinear::Args& a) {
  return AmxInt8Supports(ctx, a.x, a.w[0]);
}
Status GroupedLinearAmxInt8(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyAmxInt8(ctx, ProductOf(ctx, a));
}

Support GroupedLinearAvx512Bf16Supports(const Context& ctx, const GroupedLinear::Args& a) {
  return Avx512Bf16Supports(ctx, a.x, a.w[0], a.y.dtype());
}
Status GroupedLinearAvx512Bf16(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyAvx512Bf16(ctx, ProductOf(ctx, a));
}

}  // namespace vexil::cpu
#endif
