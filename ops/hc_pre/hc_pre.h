// First half of a manifold-constrained hyper-connection (mHC): m residual streams become one input x, and the
// weights that bring the sub-layer's output back (HcPost) are made (spec: model, sections 5.1 and 5.2).
//
//   u      = h[t] flattened stream-major, u[s*D + c] = h[t, s, c]
//   r      = 1 / sqrt( mean(u^2) + norm_eps )
//   mix_j  = ( sum_c fn[j, c] * u[c] ) * r                                  j in [0, (2+m)m)
//   pre_s  = sigmoid( mix_s * scale[0] + base[s] ) + hc_eps                 s in [0, m)
//   post_s = 2 * sigmoid( mix_{m+s} * scale[1] + base[m+s] )
//   A[j,k] = mix_{2m+jm+k} * scale[2] + base[2m+jm+k]                       j: source, k: destination stream
//   comb   = softmax of each row of A, plus hc_eps; then columns divided by (their sum + hc_eps); then
//            sinkhorn_iters - 1 times rows, then columns, divided in the same way
//   x[c]   = sum_s pre_s * h[t, s, c]                                       one rounding to x's dtype
//
// All arithmetic is f32. Order of the sums over c: lane l of 16 adds the products with c = l (mod 16) in
// ascending order; then the lanes are added in halves, l + (l + 8), ..., l + (l + 1). Sums over streams run in
// ascending order.
#pragma once

#include "ops/op.h"

namespace vexil {

struct HcPre {
  static constexpr std::string_view kName = "hc_pre";
  static constexpr int64_t kMaxStreams = 8;
  struct Args {
    TensorView h;        // [n, m, D]      F32 | BF16, 1 <= m <= kMaxStreams
    TensorView fn;       // [(2+m)m, m*D]  F32
    TensorView scale;    // [3]            F32
    TensorView base;     // [(2+m)m]       F32
    MutTensorView x;     // [n, D]         dtype of h
    MutTensorView post;  // [n, m]         F32
    MutTensorView comb;  // [n, m, m]      F32, comb[t, source, destination]
    float norm_eps = 1e-6f;
    float hc_eps = 1e-6f;
    int sinkhorn_iters = 20;  // at least 1
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<HcPre>> Kernels<HcPre>();

}  // namespace vexil
