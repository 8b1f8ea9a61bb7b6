// The m residual streams after the last layer become one vector per token (spec: model, section 10, up to
// the final norm).
//
//   u     = h[t] flattened stream-major;  r = 1 / sqrt( mean(u^2) + norm_eps )
//   mix_s = ( sum_c fn[s, c] * u[c] ) * r
//   pre_s = sigmoid( mix_s * scale[0] + base[s] ) + hc_eps
//   x[c]  = sum_s pre_s * h[t, s, c]                          one rounding to x's dtype
//
// f32; the sums have the order of HcPre (ops/hc_pre/hc_pre.h).
#pragma once

#include "ops/op.h"

namespace vexil {

struct HcHead {
  static constexpr std::string_view kName = "hc_head";
  static constexpr int64_t kMaxStreams = 8;
  struct Args {
    TensorView h;      // [n, m, D]  F32 | BF16, 1 <= m <= kMaxStreams
    TensorView fn;     // [m, m*D]   F32
    TensorView scale;  // [1]        F32
    TensorView base;   // [m]        F32
    MutTensorView x;   // [n, D]     dtype of h
    float norm_eps = 1e-6f;
    float hc_eps = 1e-6f;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<HcHead>> Kernels<HcHead>();

}  // namespace vexil
