// RMS norm with a learned weight:  y[r,:] = weight * ( x[r,:] / sqrt(mean(x[r,:]^2) + eps) )
// (spec: model, section 6). Computed in f32, one rounding to y's dtype, after the weight.
#pragma once

#include "ops/op.h"

namespace vexil {

struct RmsNorm {
  static constexpr std::string_view kName = "rms_norm";
  struct Args {
    TensorView x;       // [rows, d]  F32 | BF16
    TensorView weight;  // [d]        F32 | BF16
    MutTensorView y;    // [rows, d]  dtype of x; may be x itself
    float eps = 1e-6f;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<RmsNorm>> Kernels<RmsNorm>();

}  // namespace vexil
