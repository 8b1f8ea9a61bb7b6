// The block formats of GGUF files: 32 neighbouring elements of a row share a struct with their scale.
//
// Bit-level definitions: docs/checkpoints.md, "GGUF". All functions are pure and safe to call from any thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/float_formats.h"

namespace vexil {

// Elements of a block in both formats.
inline constexpr int kBlockElements = 32;

// Q8_0: element i = scale * codes[i].
struct Q8_0 {
  F16 scale;
  int8_t codes[kBlockElements] = {};

  float At(int i) const { return scale.ToFloat() * float(codes[i]); }  // exact: 11 bits times 7
  // The block nearest to 32 values: scale max|x| / 127, codes rounded half away from zero, as ggml rounds them.
  static Q8_0 From(const float* x);
  friend bool operator==(const Q8_0&, const Q8_0&) = default;
};
static_assert(sizeof(Q8_0) == 34 && alignof(Q8_0) == 2);

// MXFP4: element i = scale * E2M1 code i. Byte i holds code i in its low and code 16 + i in its high nibble.
// ggml multiplies twice the code's value by half the scale; the product is the same, down to scale code 0.
struct MXFP4 {
  E8M0 scale;
  uint8_t pairs[kBlockElements / 2] = {};

  uint8_t Code(int i) const {
    return uint8_t(i < kBlockElements / 2 ? pairs[i] & 15 : pairs[i - kBlockElements / 2] >> 4);
  }
  float At(int i) const { return scale.ToFloat() * E2M1x2::kValues[Code(i)]; }
  static MXFP4 FromCodes(E8M0 scale, const uint8_t (&codes)[kBlockElements]);
  // The block nearest to 32 finite values, by the rule of the published checkpoints: the smallest power of two s with
  // max|x| <= 6 s (spec: quantization, section 4.2).
  static MXFP4 From(const float* x);
  friend bool operator==(const MXFP4&, const MXFP4&) = default;
};
static_assert(sizeof(MXFP4) == 17 && alignof(MXFP4) == 1);

// ---------------------------------------------------------------------------------------------------

namespace block_formats {
inline float AbsMax(const float* x) {
  float max = 0;
  for (int i = 0; i < kBlockElements; ++i) max = std::max(max, std::fabs(x[i]));
  return max;
}
}  // namespace block_formats

inline Q8_0 Q8_0::From(const float* x) {
  const float step = block_formats::AbsMax(x) / 127.0f;
  const float inverse = step != 0 ? 1.0f / step : 0.0f;
  Q8_0 block{F16::From(step), {}};
  for (int i = 0; i < kBlockElements; ++i)
    block.codes[i] = int8_t(std::clamp(std::round(x[i] * inverse), -127.0f, 127.0f));
  return block;
}

inline MXFP4 MXFP4::FromCodes(E8M0 scale, const uint8_t (&codes)[kBlockElements]) {
  MXFP4 block{scale, {}};
  constexpr int kHalf = kBlockElements / 2;
  for (int i = 0; i < kHalf; ++i) block.pairs[i] = uint8_t(codes[i] | codes[kHalf + i] << 4);
  return block;
}

inline MXFP4 MXFP4::From(const float* x) {
  constexpr float kFloor = E2M1x2::kMax * 0x1p-126f;
  int exponent = 0;
  const float fraction = std::frexp(std::max(block_formats::AbsMax(x), kFloor) / E2M1x2::kMax, &exponent);
  if (fraction == 0.5f) --exponent;    // an exact power of two is its own scale
  exponent = std::min(exponent, 125);  // 6 * 2^126 would be infinite
  const float inverse = std::ldexp(1.0f, -exponent);
  uint8_t codes[kBlockElements];
  for (int i = 0; i < kBlockElements; ++i) codes[i] = E2M1x2::Code(x[i] * inverse);
  return FromCodes(E8M0::FromExponent(exponent), codes);
}

}  // namespace vexil
