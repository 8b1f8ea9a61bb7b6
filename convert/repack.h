// FP4 -> FP8 without rounding where possible (spec: quantization, 6). A tile of 128 x 128 gets the scale
// S = (largest scale in it) / 2^6, and every value becomes E4M3( E2M1 value * own scale / S ).
#pragma once

#include <cstdint>

#include "base/float_formats.h"

namespace vexil::convert {

inline constexpr int kRepackShift = 6;  // 6 * 2^6 = 384 is below E4M3's 448, one doubling more is not

// The exponent code of a tile's scale from the codes of its FP4 scales; -1 when the largest is too small (below 2^-121)
// or NaN.
int RepackedScale(int largest);

// n values from n / 2 pairs (n a multiple of 32) of one row; scale i covers 32 of them. `tile_scales[j]` is the new
// scale of values 128 j .. Returns how many values are not exactly representable; those are rounded to nearest even.
int64_t RepackRow(const E2M1x2* pairs, int64_t n, const E8M0* scales, const E8M0* tile_scales, E4M3* out);

}  // namespace vexil::convert
