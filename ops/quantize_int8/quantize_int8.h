// Activations for an INT8 weight (W8A8): int8 codes with one scale per row (spec: quantization, section 8).
//
//   s = max( max |x_i|, 1e-10 ) / 127;   q_i = round( x_i / s ), halves to even
//
// The divisions are IEEE binary32 divisions of f32 values, so every kernel gives the same bits; |q_i| <= 127. A row
// with a NaN or an infinity has a NaN scale and zero codes.
#pragma once

#include "ops/op.h"

namespace vexil {

struct QuantizeInt8 {
  static constexpr std::string_view kName = "quantize_int8";
  struct Args {
    TensorView x;         // [n, K]  F32 | BF16; rows may be strided
    MutTensorView codes;  // [n, K]  I8
    MutTensorView scale;  // [n]     F32
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<QuantizeInt8>> Kernels<QuantizeInt8>();

}  // namespace vexil
