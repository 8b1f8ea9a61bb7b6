// GroupedLinear in f32 vectors, for every format and processor.
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/product_vectors.h"

namespace vexil::cpu {

Support GroupedLinearAvx512Supports(const Context& ctx, const GroupedLinear::Args& a) {
  return VectorsSupport(ctx, a.x, CpuIsa::kAvx512);
}
Status GroupedLinearAvx512(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyVectors(ctx, ProductOf(ctx, a), CpuIsa::kAvx512);
}

Support GroupedLinearAvx2Supports(const Context& ctx, const GroupedLinear::Args& a) {
  return VectorsSupport(ctx, a.x, CpuIsa::kAvx2);
}
Status GroupedLinearAvx2(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyVectors(ctx, ProductOf(ctx, a), CpuIsa::kAvx2);
}

Support GroupedLinearPortableSupports(const Context& ctx, const GroupedLinear::Args& a) {
  return VectorsSupport(ctx, a.x, CpuIsa::kPortable);
}
Status GroupedLinearPortable(const Context& ctx, const GroupedLinear::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  return MultiplyVectors(ctx, ProductOf(ctx, a), CpuIsa::kPortable);
}

}  // namespace vexil::cpu
