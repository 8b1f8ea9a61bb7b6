// Product (product.h) with AMX: tiles of 16 rows of w times up to 16 rows of x.
#pragma once

#include "ops/linear/product.h"

namespace vexil::cpu {

Support AmxSupports(const Context& ctx, const QuantView& x, const QuantView& w, DType y);
Status MultiplyAmx(const Context& ctx, const Product& product);

}  // namespace vexil::cpu
