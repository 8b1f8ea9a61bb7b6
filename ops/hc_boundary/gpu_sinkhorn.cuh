// Sinkhorn's algorithm for 4 streams in the registers of one lane (ops/hc_pre/hc_pre.h).
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

// 1 / v to an ulp; v is positive and not subnormal.
__device__ inline float Reciprocal(float v) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
#else
  return 1.0f / v;
#endif
}

// The least eps for which the products of Sinkhorn4 stay normal numbers.
inline constexpr float kLeastSinkhornEps = 1e-7f;

// One step: the inverse factors of one side from those of the other, to[j] = sum_k c(j, k) / from[k] + eps * to[j]. The
// quotients have one denominator, the product of all: a single reciprocal, which is under way while the sums are made.
template <class C>
__device__ inline void BalanceSide(const C& c, const float (&from)[4], float eps, float (&to)[4]) {
  const float low = from[0] * from[1], high = from[2] * from[3];
  const float inverse = Reciprocal(low * high);
  const float rest[4] = {from[1] * high, from[0] * high, low * from[3], low * from[2]};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float sum = c(j, 0) * rest[0] + c(j, 1) * rest[1] + c(j, 2) * rest[2] + c(j, 3) * rest[3];
    to[j] = sum * inverse + eps * to[j];
  }
}

// c becomes its softmax by rows plus eps, then is balanced, by one lane. The matrix stays as it is until the end: row j
// is divided by row[j] and column k by column[k]. To divide c / (row column) by its sums plus eps is to give row or
// column the values of BalanceSide. Each step starts from the matrix again, so roundings do not add up.
__device__ inline void Sinkhorn4(float (&c)[4][4], float eps, int iterations) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float max = fmaxf(fmaxf(c[j][0], c[j][1]), fmaxf(c[j][2], c[j][3]));
    float sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      c[j][k] = expf(c[j][k] - max);
      sum += c[j][k];
    }
    const float inverse = 1.0f / sum;
#pragma unroll
    for (int k = 0; k < 4; ++k) c[j][k] = c[j][k] * inverse + eps;
  }
  const auto by_row = [&](int j, int k) { return c[j][k]; };
  const auto by_column = [&](int k, int j) { return c[j][k]; };
  float row[4] = {1, 1, 1, 1}, column[4] = {1, 1, 1, 1};
  BalanceSide(by_column, row, eps, column);
  for (int i = 1; i < iterations; ++i) {
    BalanceSide(by_row, column, eps, row);
    BalanceSide(by_column, row, eps, column);
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int k = 0; k < 4; ++k) c[j][k] *= Reciprocal(row[j]) * Reciprocal(column[k]);
  }
}

}  // namespace vexil::gpu
