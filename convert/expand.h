// Quantised values -> BF16, exactly as written down: bf16( f32(code) * f32(scale) ), one rounding to nearest even,
// which changes nothing while the product is in BF16's range (spec: quantization, 7). A NaN code or scale gives NaN.
#pragma once

#include <cstdint>

#include "base/float_formats.h"

namespace vexil::convert {

// n codes under one scale.
void ExpandE4M3(const E4M3* codes, int64_t n, E8M0 scale, BF16* out);

// n values from n / 2 pairs (n even); scale i covers values 32 i .. 32 i + 31.
void ExpandE2M1(const E2M1x2* pairs, int64_t n, const E8M0* scales, BF16* out);

// n codes under one scale: bf16( f32(code) * scale ) (spec: quantization, 8a).
void ExpandInt8(const int8_t* codes, int64_t n, float scale, BF16* out);

}  // namespace vexil::convert
