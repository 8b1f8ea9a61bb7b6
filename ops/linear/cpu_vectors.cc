// Linear in f32 vectors, for every format and processor.
#include "ops/linear/linear.h"
#include "ops/linear/product_vectors.h"

namespace vexil::cpu {

Support LinearAvx512Supports(const Context& ctx, const Linear::Args& a) {
  return VectorsSupport(ctx, a.x, CpuIsa::kAvx512);
}
Status LinearAvx512(const Context& ctx, const Linear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyVectors(ctx, ProductOf(ctx, a), CpuIsa::kAvx512);
}

Support LinearAvx2Supports(const Context& ctx, const Linear::Args& a) {
  return VectorsSupport(ctx, a.x, CpuIsa::kAvx2);
}
Status LinearAvx2(const Context& ctx, const Linear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyVectors(ctx, ProductOf(ctx, a), CpuIsa::kAvx2);
}

Support LinearPortableSupports(const Context& ctx, const Linear::Args& a) {
  return VectorsSupport(ctx, a.x, CpuIsa::kPortable);
}
Status LinearPortable(const Context& ctx, const Linear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyVectors(ctx, ProductOf(ctx, a), CpuIsa::kPortable);
}

}  // namespace vexil::cpu
