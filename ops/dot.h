// Dot product of f32 vectors for plain kernels: readable, and in a shape that compilers vectorise without being allowed
// to reorder sums.
#pragma once

#include <cstdint>

namespace vexil {

inline constexpr int kDotLanes = 16;

// Lane l sums a[i] * b[i] over i = l (mod 16) in ascending order; the lanes are then added by pairwise halving.
inline float Dot(const float* a, const float* b, int64_t n) {
  float lane[kDotLanes] = {};
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) {
    for (int l = 0; l < kDotLanes; ++l) lane[l] += a[i + l] * b[i + l];
  }
  for (int l = 0; i + l < n; ++l) lane[l] += a[i + l] * b[i + l];
  for (int half = kDotLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return lane[0];
}

}  // namespace vexil
