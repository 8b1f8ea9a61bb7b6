// The storage formats of DeepSeek-V4 checkpoints as C++ types: BF16, F16, E4M3, E8M0, E2M1.
//
// Every conversion to a narrow format rounds to nearest, ties to the even code. Bit-level definitions:
// docs/numerics.md. All functions are pure and safe to call from any thread.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace vexil {

// bfloat16: the upper half of an IEEE binary32.
struct BF16 {
  uint16_t bits = 0;

  static BF16 From(float f) {
    const uint32_t u = std::bit_cast<uint32_t>(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {uint16_t((u >> 16) | 0x40u)};  // keep NaN quiet
    return {uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
  }
  float ToFloat() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
  friend bool operator==(BF16, BF16) = default;
};

// IEEE binary16.
struct F16 {
  uint16_t bits = 0;

  static F16 From(float f);
  float ToFloat() const;
  friend bool operator==(F16, F16) = default;
};

// E4M3FN: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinities, 0x7f and 0xff are NaN.
struct E4M3 {
  uint8_t bits = 0;
  static constexpr float kMax = 448.0f;

  // Values beyond +-448 saturate; the model clamps before it converts (spec: quantization, 1.1).
  static E4M3 From(float f);
  float ToFloat() const;
  friend bool operator==(E4M3, E4M3) = default;
};

// E8M0: a power of two, 2^(bits - 127); 255 is NaN. There is no zero and no sign.
struct E8M0 {
  uint8_t bits = 127;

  // 2^exponent, for -127 <= exponent <= 127.
  static E8M0 FromExponent(int exponent) { return {uint8_t(exponent + 127)}; }
  float ToFloat() const {
    if (bits == 255) return std::numeric_limits<float>::quiet_NaN();
    // Code 0 is 2^-127, a binary32 subnormal, so shifting the exponent in would give zero.
    return bits == 0 ? std::bit_cast<float>(0x00400000u) : std::bit_cast<float>(uint32_t(bits) << 23);
  }
  friend bool operator==(E8M0, E8M0) = default;
};

// Two E2M1 codes in a byte. The element with the even index is the low nibble.
struct E2M1x2 {
  uint8_t bits = 0;

  static constexpr float kMax = 6.0f;
  static constexpr float kValues[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                        -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  // The 4-bit code nearest to f; values beyond +-6 saturate.
  static uint8_t Code(float f);
  float Low() const { return kValues[bits & 15]; }
  float High() const { return kValues[bits >> 4]; }
  friend bool operator==(E2M1x2, E2M1x2) = default;
};

// ---------------------------------------------------------------------------------------------------

inline F16 F16::From(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  const uint16_t sign = uint16_t((u >> 16) & 0x8000u);
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return {uint16_t(sign | 0x7e00u)};
  if (a >= 0x477ff000u) return {uint16_t(sign | 0x7c00u)};  // rounds to 2^16 or more
  if (a < 0x38800000u) {  // subnormal result: let the FPU round to a multiple of 2^-24
    const float r = std::nearbyint(std::bit_cast<float>(a) * 0x1p24f);
    return {uint16_t(sign | uint16_t(r))};
  }
  const uint32_t r = a + 0xfffu + ((a >> 13) & 1u) - 0x38000000u;
  return {uint16_t(sign | uint16_t(r >> 13))};
}

inline float F16::ToFloat() const {
  const uint32_t sign = uint32_t(bits & 0x8000u) << 16;
  const uint32_t e = (bits >> 10) & 31u, m = bits & 0x3ffu;
  if (e == 0) return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(float(m) * 0x1p-24f));
  if (e == 31) return std::bit_cast<float>(sign | 0x7f800000u | (m << 13));
  return std::bit_cast<float>(sign | ((e + 112u) << 23) | (m << 13));
}

inline E4M3 E4M3::From(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  const uint8_t sign = uint8_t((u >> 24) & 0x80u);
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return {uint8_t(sign | 0x7fu)};
  if (a >= 0x43e80000u) return {uint8_t(sign | 0x7eu)};  // >= 464, the midpoint above 448
  if (a < 0x3c800000u) {                                 // below 2^-6: multiples of 2^-9
    return {uint8_t(sign | uint8_t(std::nearbyint(std::bit_cast<float>(a) * 0x1p9f)))};
  }
  const uint32_t r = a + 0x7ffffu + ((a >> 20) & 1u) - (120u << 23);
  const uint32_t code = r >> 20;
  return {uint8_t(sign | (code > 0x7eu ? 0x7eu : code))};
}

inline float E4M3::ToFloat() const {
  const uint32_t sign = uint32_t(bits & 0x80u) << 24;
  const uint32_t e = (bits >> 3) & 15u, m = bits & 7u;
  if (e == 15 && m == 7) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (e == 0) return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(float(m) * 0x1p-9f));
  return std::bit_cast<float>(sign | ((e + 120u) << 23) | (m << 20));
}

inline uint8_t E2M1x2::Code(float f) {
  const uint8_t sign = std::signbit(f) ? 8 : 0;
  const float a = std::fabs(f);
  // Midpoints between neighbours; a tie goes to the even code.
  const uint8_t code = a <= 0.25f   ? 0
                       : a < 0.75f  ? 1
                       : a <= 1.25f ? 2
                       : a < 1.75f  ? 3
                       : a <= 2.5f  ? 4
                       : a < 3.5f   ? 5
                       : a <= 5.0f  ? 6
                                    : 7;
  return uint8_t(sign | code);
}

}  // namespace vexil
