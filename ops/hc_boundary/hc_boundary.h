// What lies between two sub-layers (spec: model, sections 5 and 6): the output y of one joins the m residual streams
// (HcPost), the streams become the input of the next (HcPre), which is normed (RmsNorm) and rounded for block-scaled
// weights (QuantizeActivation):
//
//   h            = post of the sub-layer before * y + comb of the sub-layer before * h     where there is a y
//   x, post, comb = the first half of the hyper-connection of the sub-layer behind, of h
//   x            = norm * ( x / sqrt(mean(x^2) + norm_eps) )
//   codes, codes_scale = x in E4M3                                                      where they are asked for
//
// Rounding points are those of the four ops: h and, before and after the norm, x are rounded to their dtype.
#pragma once

#include "ops/hc_post/hc_post.h"
#include "ops/hc_pre/hc_pre.h"
#include "ops/op.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/rms_norm/rms_norm.h"

namespace vexil {

struct HcBoundary {
  static constexpr std::string_view kName = "hc_boundary";
  struct Args {
    // The sub-layer before: all three or none.
    TensorView y;       // [n, D]     dtype of h
    TensorView y_post;  // [n, m]     F32
    TensorView y_comb;  // [n, m, m]  F32, source, destination

    MutTensorView h;  // [n, m, D]  F32 | BF16, 1 <= m <= 8; updated in place when there is a y

    // The sub-layer behind, as in HcPre.
    TensorView fn;       // [(2+m)m, m*D]  F32
    TensorView scale;    // [3]            F32
    TensorView base;     // [(2+m)m]       F32
    MutTensorView post;  // [n, m]         F32; may be y_post itself
    MutTensorView comb;  // [n, m, m]      F32; may be y_comb itself
    TensorView norm;     // [D]            F32 | BF16
    MutTensorView x;     // [n, D]         dtype of h

    // Both or none.
    MutTensorView codes;        // [n, D]              E4M3
    MutTensorView codes_scale;  // [n, ceil(D/block)]  E8M0

    float norm_eps = 1e-6f;  // of both norms
    float hc_eps = 1e-6f;
    int sinkhorn_iters = 20;  // at least 1
    int64_t block = 128;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<HcBoundary>> Kernels<HcBoundary>();

// What the four ops get.
inline HcPost::Args PostOf(const HcBoundary::Args& a) {
  return {.x = a.y, .residual = a.h, .post = a.y_post, .comb = a.y_comb, .y = a.h};
}
inline HcPre::Args PreOf(const HcBoundary::Args& a) {
  return {.h = a.h,
          .fn = a.fn,
          .scale = a.scale,
          .base = a.base,
          .x = a.x,
          .post = a.post,
          .comb = a.comb,
          .norm_eps = a.norm_eps,
          .hc_eps = a.hc_eps,
          .sinkhorn_iters = a.sinkhorn_iters};
}
inline RmsNorm::Args NormOf(const HcBoundary::Args& a) {
  return {.x = a.x, .weight = a.norm, .y = a.x, .eps = a.norm_eps};
}
inline QuantizeActivation::Args QuantizeOf(const HcBoundary::Args& a) {
  return {.x = a.x, .codes = a.codes, .scale = a.codes_scale, .block = a.block};
}

// The four ops one after the other.
inline Status RunByOps(const Context& ctx, const HcBoundary::Args& a) {
  if (!a.y.empty()) VX_TRY(Run<HcPost>(ctx, PostOf(a)));
  VX_TRY(Run<HcPre>(ctx, PreOf(a)));
  VX_TRY(Run<RmsNorm>(ctx, NormOf(a)));
  return a.codes.empty() ? Status() : Run<QuantizeActivation>(ctx, QuantizeOf(a));
}

}  // namespace vexil
