// The inner product of the plain kernels of Linear and GroupedLinear.
#pragma once

#include <algorithm>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/linear/operands.h"
#include "ops/op.h"

namespace vexil::cpu {

// sum_k x[k] * w[k] in the order that linear.h describes, with 16 lanes and blocks of 256: the longest chain of
// additions that an element goes through is 16 + K/256 + 16, so the error hardly grows with K.
inline float Dot(const float* x, const float* w, int64_t k) {
  constexpr int64_t kLanes = 16, kBlock = 256;
  float total[kLanes] = {};
  for (int64_t begin = 0; begin < k; begin += kBlock) {
    const int64_t end = std::min(k, begin + kBlock);
    float sum[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) sum[l] += x[i + l] * w[i + l];
    }
    for (int64_t l = 0; i + l < end && !VX_FAULT("dropped_tail"); ++l) sum[l] += x[i + l] * w[i + l];
    for (int64_t l = 0; l < kLanes; ++l) total[l] += sum[l];
  }
  float y = 0;
  for (float t : total) y += t;
  return y;
}

// All rows of x as f32 [rows, K], in the context's workspace.
inline const float* DecodeInput(const Context& ctx, const QuantView& x) {
  const int64_t rows = x.data.dim(0), k = x.Columns();
  float* out = ctx.workspace->Allocate<float>(rows * k);
  ctx.For(rows, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) DecodeRow(x, i, 0, k, DType::kF32, out + i * k);
  });
  return out;
}

// Rounds to y's dtype, once.
template <class T>
T Rounded(float v) {
  if constexpr (std::is_same_v<T, BF16>) {
    if (VX_FAULT("truncated_output")) return BF16{uint16_t(std::bit_cast<uint32_t>(v) >> 16)};
  }
  return FromFloat<T>(v);
}

}  // namespace vexil::cpu
