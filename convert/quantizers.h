// Values -> codes and scales in the published formats: the least power of two that keeps a block in range (spec:
// quantization, 4.1 and 4.2, on weights), and one float scale per row for INT8 (8). Rounding is to nearest even.
#pragma once

#include <cstdint>

#include "base/float_formats.h"

namespace vexil::convert {

// max |x_i|; NaN when there is one.
float AbsMax(const float* x, int64_t n);

// The least e with amax <= max * 2^e, as a scale's code; at least 2^-126. Unlike for
// activations there is no floor of 1e-4: a block of small weights keeps its precision.
// 255, the code of NaN, for an infinite or NaN amax.
E8M0 ScaleForE4M3(float amax);
E8M0 ScaleForE2M1(float amax);

void EncodeE4M3(const float* x, int64_t n, E8M0 scale, E4M3* out);
// n even.
void EncodeE2M1(const float* x, int64_t n, E8M0 scale, E2M1x2* out);

// max(amax, 1e-10) / 127.
float ScaleForInt8(float amax);
// clamp(round(x / scale), -128, 127); 0 for NaN.
void EncodeInt8(const float* x, int64_t n, float scale, int8_t* out);

}  // namespace vexil::convert
