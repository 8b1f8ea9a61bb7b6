// The part of the AMX products (product_amx.h) that serves groups of many rows.
#pragma once

#include "ops/linear/product.h"

#if defined(__x86_64__)
namespace vexil::cpu {

// y for all groups of `p`, which has some. Operands are those that AmxSupports() takes. The bits are those of the
// kernel for few rows.
void MultiplyAmxBlocked(const Context& ctx, const Product& p);

}  // namespace vexil::cpu
#endif
