// RMS norm of each query head, without a weight, in place (spec: model, section 8.1):
//   x[t, h, :] = x[t, h, :] * rsqrt( mean(x[t, h, :]^2) + eps )
//
// With BF16 activations every step is an operation of its own that rounds to BF16:
//   a = bf16(x^2);  m = bf16(mean(a));  m = bf16(m + eps);  r = bf16(rsqrt(m));  x = bf16(x * r)
// where the mean is accumulated in f32. With F32 activations nothing but f32 arithmetic rounds.
// Order of the sum: lane l of 8 adds the elements i = l (mod 8) in ascending order; then the lanes are added
// in halves, l + (l + 4), l + (l + 2), l + (l + 1).
#pragma once

#include "ops/op.h"

namespace vexil {

struct HeadRms {
  static constexpr std::string_view kName = "head_rms";
  struct Args {
    MutTensorView x;  // [n, H, d]  F32 | BF16, in place; rows and heads may be strided
    float eps = 1e-6f;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<HeadRms>> Kernels<HeadRms>();

}  // namespace vexil
