// Product (product.h) of I8 x and I8 w with AMX: sums of codes in int32, scales last (linear.h).
#pragma once

#include "ops/linear/product.h"

namespace vexil::cpu {

Support AmxInt8Supports(const Context& ctx, const QuantView& x, const QuantView& w);
Status MultiplyAmxInt8(const Context& ctx, const Product& product);

}  // namespace vexil::cpu
