// The power-of-two scale of a block of values, by the rule of ops/quantize_activation/block_scale.h.
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

struct ScaleRule {
  float max, inverse_max, floor;
};
__device__ constexpr ScaleRule E4M3Rule() { return {448.0f, 1.0f / 448.0f, 1e-4f}; }
__device__ constexpr ScaleRule E2M1Rule() { return {6.0f, 1.0f / 6.0f, 6.0f * 0x1p-126f}; }

// max |x[i]| over the n elements of a block, for a warp. On bit patterns, where NaN is above infinity.
template <class T>
__device__ inline float AbsMax(const T* x, int n) {
  uint32_t max = 0;
  for (int i = Lane(); i < n; i += kWarp) {
    const uint32_t bits = __float_as_uint(ToF32(x[i])) & 0x7fffffffu;
    max = bits > max ? bits : max;
  }
  return __uint_as_float(WarpReduce(max, Larger()));
}

// The E8M0 code of the least power of two that carries amax; 255, NaN, when amax is infinite or NaN.
__device__ inline uint8_t ScaleCode(float amax, ScaleRule rule) {
  if (amax < rule.floor) amax = rule.floor;
  const uint32_t bits = __float_as_uint(amax * rule.inverse_max), code = bits >> 23;
  return uint8_t(code == 255 ? 255 : code + ((bits & 0x7fffffu) != 0 ? 1 : 0));
}

__device__ inline float ClampTo(float v, float max) { return v < -max ? -max : max < v ? max : v; }

}  // namespace vexil::gpu
