// Product (product.h) in f32 with the vectors of any processor: a register-blocked dot product with FMA where there is
// one. It serves every format.
//
// The work is cut into tiles of y, up to 128 rows by 16 columns. The weights of a tile are decoded to f32, a block
// along K at a time, and multiplied with all its rows of x.
#pragma once

#include "ops/linear/product.h"

namespace vexil::cpu {

// Of the levels kPortable, kAvx2, kAvx512.
Support VectorsSupport(const Context& ctx, const QuantView& x, CpuIsa isa);
Status MultiplyVectors(const Context& ctx, const Product& product, CpuIsa isa);

}  // namespace vexil::cpu

// The kernels of an op that is a product, one per level.
#define VX_PRODUCT_VECTORS_KERNEL(Op, Level)                           \
  Support Op##Level##Supports(const Context& ctx, const Op::Args& a) { \
    return VectorsSupport(ctx, a.x, CpuIsa::k##Level);                 \
  }                                                                    \
  Status Op##Level(const Context& ctx, const Op::Args& a) {            \
    const Arena::Scope scope(*ctx.workspace);                          \
    return MultiplyVectors(ctx, ProductOf(ctx, a), CpuIsa::k##Level);  \
  }
#define VX_PRODUCT_VECTORS_KERNELS(Op)  \
  VX_PRODUCT_VECTORS_KERNEL(Op, Avx512) \
  VX_PRODUCT_VECTORS_KERNEL(Op, Avx2)   \
  VX_PRODUCT_VECTORS_KERNEL(Op, Portable)
