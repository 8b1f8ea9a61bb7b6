// Linear with x86 instructions that multiply BF16 or int8.
#include "ops/linear/linear.h"
#include "ops/linear/product_amx.h"
#include "ops/linear/product_amx_int8.h"
#include "ops/linear/product_avx512bf16.h"

#if defined(__x86_64__)
namespace vexil::cpu {

Support LinearAmxSupports(const Context& ctx, const Linear::Args& a) { return AmxSupports(ctx, a.x, a.w, a.y.dtype()); }
Status LinearAmx(const Context& ctx, const Linear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyAmx(ctx, ProductOf(ctx, a));
}

Support LinearAmxInt8Supports(const Context& ctx, const Linear::Args& a) { return AmxInt8Supports(ctx, a.x, a.w); }
Status LinearAmxInt8(const Context& ctx, const Linear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyAmxInt8(ctx, ProductOf(ctx, a));
}

Support LinearAvx512Bf16Supports(const Context& ctx, const Linear::Args& a) {
  return Avx512Bf16Supports(ctx, a.x, a.w, a.y.dtype());
}
Status LinearAvx512Bf16(const Context& ctx, const Linear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyAvx512Bf16(ctx, ProductOf(ctx, a));
}

}  // namespace vexil::cpu
#endif
