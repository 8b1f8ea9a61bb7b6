// Product (product.h) with VDPBF16PS: dot products along K, 16 lanes of pairs.
#pragma once

#include "ops/linear/product.h"

namespace vexil::cpu {

Support Avx512Bf16Supports(const Context& ctx, const QuantView& x, const QuantView& w, DType y);
Status MultiplyAvx512Bf16(const Context& ctx, const Product& product);

}  // namespace vexil::cpu
