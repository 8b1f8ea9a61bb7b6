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
