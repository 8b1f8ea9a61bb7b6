// The inner product of the plain kernels of Linear and GroupedLinear.
#pragma once

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/linear/operands.h"
#include "ops/op.h"

namespace vexil::cpu {

// y[i] = sum_k x[i, k] * w[k] for n contiguous rows of x, in the order that linear.h describes (dot.cc).
void DotRows(const float* x, int64_t n, int64_t k, const float* w, float* y);

// y[i] = (f32(sum_k x[i, k] * w[k]) * x's scale i) * `scale` for the rows first, first + 1, ... of I8 x, the sums in
// int32 (cpu_int8.cc).
void Int8DotRows(const QuantView& x, int64_t first, int64_t n, const int8_t* w, float scale, float* y);

// The scale of row `row` of an I8 weight.
inline float Int8Scale(const QuantView& w, int64_t row) {
  return w.scale.dtype() == DType::kF32 ? w.scale.Data<float>()[row] : w.scale.Data<BF16>()[row].ToFloat();
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
