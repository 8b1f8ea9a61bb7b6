// Second half of a manifold-constrained hyper-connection (mHC): a sub-layer's output x joins the m residual
// streams (spec: model, section 5.3).
//
//   y[t, k, c] = post[t, k] * x[t, c] + sum_j comb[t, j, k] * residual[t, j, c]
//
// f32, one rounding to y's dtype. The sum over the source streams j runs in ascending order and is complete
// before post * x is added.
#pragma once

#include "ops/op.h"

namespace vexil {

struct HcPost {
  static constexpr std::string_view kName = "hc_post";
  static constexpr int64_t kMaxStreams = 8;
  struct Args {
    TensorView x;         // [n, D]     F32 | BF16
    TensorView residual;  // [n, m, D]  dtype of x, 1 <= m <= kMaxStreams
    TensorView post;      // [n, m]     F32
    TensorView comb;      // [n, m, m]  F32, comb[t, source, destination]
    MutTensorView y;      // [n, m, D]  dtype of x; may be residual itself
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<HcPost>> Kernels<HcPost>();

}  // namespace vexil
