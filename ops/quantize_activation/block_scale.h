// The power-of-two scale of a block of values (spec: quantization, sections 4.1 and 4.2): shared by the CPU
// kernels of QuantizeActivation and FakeQuantize.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/float_formats.h"
#include "ops/elements.h"
#include "ops/fault.h"

namespace vexil::cpu {

// What a target format asks of its scales.
struct ScaleRule {
  float max;          // the largest finite value of the format
  float inverse_max;  // f32(1 / max)
  float floor;        // the least amax
};
inline constexpr ScaleRule kE4M3Scale{E4M3::kMax, 1.0f / E4M3::kMax, 1e-4f};
inline constexpr ScaleRule kE2M1Scale{E2M1x2::kMax, 1.0f / E2M1x2::kMax, E2M1x2::kMax * 0x1p-126f};

// max |x_i|. On the bit patterns, where NaN is above infinity is above every number, so that neither is lost.
template <class T>
float AbsMax(const T* x, int64_t n) {
  uint32_t max = 0;
  for (int64_t i = 0; i < n; ++i) max = std::max(max, std::bit_cast<uint32_t>(ToFloat(x[i])) & 0x7fffffffu);
  return std::bit_cast<float>(max);
}

// e = ceil(log2( f32(amax * f32(1/max)) )) with amax not below the floor: the least e with amax <= max * 2^e.
// 128, the exponent of E8M0's NaN, when amax is infinite or NaN.
inline int ScaleExponent(float amax, const ScaleRule& rule) {
  if (!VX_FAULT("no_floor") && amax < rule.floor) amax = rule.floor;
  const uint32_t bits = std::bit_cast<uint32_t>(amax * rule.inverse_max);
  const int exponent = int(bits >> 23) - 127;
  if (exponent == 128) return 128;
  return exponent + ((bits & 0x7fffffu) != 0 && !VX_FAULT("exponent_rounded_down") ? 1 : 0);
}

}  // namespace vexil::cpu
