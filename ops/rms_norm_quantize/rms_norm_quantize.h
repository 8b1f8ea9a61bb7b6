// RmsNorm, then QuantizeActivation of its result (the low-rank query of attention; spec: model, section 8.1):
//
//   y = weight * ( x / sqrt(mean(x^2) + eps) ), rounded to x's dtype;  codes, scale of y
//
// Arithmetic and roundings are those of the two ops, whose bits the results have.
#pragma once

#include "ops/op.h"

namespace vexil {

struct RmsNormQuantize {
  static constexpr std::string_view kName = "rms_norm_quantize";
  struct Args {
    TensorView x;         // [n, d]              F32 | BF16
    TensorView weight;    // [d]                 F32 | BF16
    MutTensorView codes;  // [n, d]              E4M3
    MutTensorView scale;  // [n, ceil(d/block)]  E8M0
    float eps = 1e-6f;
    int64_t block = 128;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<RmsNormQuantize>> Kernels<RmsNormQuantize>();

}  // namespace vexil
