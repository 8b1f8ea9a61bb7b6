// Arithmetic shared by the CPU kernels of the hyper-connection ops (HcPre, HcHead).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/tensor.h"
#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/op.h"

namespace vexil::cpu {

// Whether the kernels in vectors take streams h.
inline Support VectorsTakeStreams(const Context& ctx, const TensorView& h) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(IsFloat(h.dtype()), "h must be F32 or BF16");
  VX_REQUIRE(h.dim(2) % 16 == 0, "D must be a multiple of 16");
  return {};
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// sum a[i] * b[i]. Lane l of 16 adds the products with i = l (mod 16) in ascending order; then the lanes are
// added in halves. The lanes are independent, so that compilers vectorise them without reordering anything.
inline float LaneDot(const float* a, const float* b, int64_t n) {
  constexpr int64_t kLanes = 16;
  float lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lane[l] += a[i + l] * b[i + l];
  }
  for (int64_t l = 0; i + l < n; ++l) lane[l] += a[i + l] * b[i + l];
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return lane[0];
}

// The streams of token t of h [n, m, D] one after the other, as f32: u [m*D].
template <class T>
void FlattenStreams(const TensorView& h, int64_t t, float* u) {
  const int64_t d = h.dim(2);
  for (int64_t s = 0; s < h.dim(1); ++s) {
    const T* stream = h.Row<T>(t) + s * h.stride(1);
    for (int64_t c = 0; c < d; ++c) u[s * d + c] = ToFloat(stream[c]);
  }
}

// r of the spec, 1 / sqrt( mean(u^2) + eps ).
inline float InverseRms(const float* u, int64_t n, float eps) {
  return 1.0f / std::sqrt(LaneDot(u, u, n) / float(n) + (VX_FAULT("no_norm_eps") ? 0.0f : eps));
}

// x[c] = sum_s pre[s] * u[s*D + c], streams in ascending order, one rounding to T.
template <class T>
void MixStreams(const float* u, const float* pre, int64_t m, int64_t d, T* x) {
  constexpr int64_t kColumns = 64;  // a block of sums that stays in registers or the nearest cache
  for (int64_t begin = 0; begin < d; begin += kColumns) {
    const int64_t count = std::min(kColumns, d - begin);
    float sum[kColumns] = {};
    for (int64_t s = 0; s < m; ++s) {
      const float* stream = u + s * d + begin;
      for (int64_t c = 0; c < count; ++c) sum[c] += pre[s] * stream[c];
    }
    for (int64_t c = 0; c < count; ++c) x[begin + c] = FromFloat<T>(sum[c]);
  }
}

}  // namespace vexil::cpu
