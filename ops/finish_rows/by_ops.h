// A set's steps as calls of the ops of their names: what FinishRows means.
#pragma once

#include "ops/fault.h"
#include "ops/finish_rows/finish_rows.h"
#include "ops/hadamard/hadamard.h"
#include "ops/head_rms/head_rms.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/scatter_rows/scatter_rows.h"

namespace vexil {

// Calls f with views [rows, d] that make up x: all rows at once where they are evenly spaced, else head by head.
template <class F>
Status ForMatrices(const MutTensorView& x, const F& f) {
  const int64_t n = x.dim(0), heads = x.dim(1), d = x.dim(2);
  if (x.IsContiguous()) return f(x.Reshape({n * heads, d}));
  const MutTensorView tokens(x.mut_raw(), x.dtype(), {n, x.stride(0)}, x.device());
  for (int64_t h = 0; h < heads; ++h) VX_TRY(f(tokens.Columns(h * d, (h + 1) * d)));
  return {};
}

inline Status NormByOps(const Context& ctx, const FinishRows::Set& s) {
  if (s.norm == FinishRows::Norm::kHead) return Run<HeadRms>(ctx, {.x = s.x, .eps = s.eps});
  if (s.norm == FinishRows::Norm::kNone) return {};
  return ForMatrices(s.x, [&](const MutTensorView& x) {
    return Run<RmsNorm>(ctx, {.x = x, .weight = s.weight, .y = x, .eps = s.eps});
  });
}

inline Status RotateByOps(const Context& ctx, const FinishRows::Set& s) {
  if (s.freqs.empty()) return {};
  const bool inverse = s.inverse && !VX_FAULT("never_inverse");
  return Run<Rope>(ctx, {.x = s.x, .positions = s.positions, .freqs = s.freqs, .inverse = inverse});
}

inline Status RoundByOps(const Context& ctx, const FinishRows::Set& s) {
  const int64_t rounded = VX_FAULT("rotary_rounded") ? s.x.dim(2) : s.rounded;
  if (s.rounded == 0) return {};
  return ForMatrices(s.x, [&](const MutTensorView& x) {
    return Run<FakeQuantize>(ctx, {.x = x.Columns(0, rounded), .format = s.format, .block = s.block});
  });
}

inline Status StoreByOps(const Context& ctx, const FinishRows::Set& s) {
  if (s.rows.empty()) return {};
  return ForMatrices(
      s.x, [&](const MutTensorView& x) { return Run<ScatterRows>(ctx, {.x = x, .rows = s.rows, .pool = s.pool}); });
}

inline Status FinishByOps(const Context& ctx, const FinishRows::Set& s) {
  if (s.x.empty() || s.x.dim(0) == 0 || s.x.dim(1) == 0) return {};
  if (VX_FAULT("stored_too_early")) VX_TRY(StoreByOps(ctx, s));
  if (VX_FAULT("norm_last")) {
    VX_TRY(RotateByOps(ctx, s));
    VX_TRY(NormByOps(ctx, s));
  } else {
    VX_TRY(NormByOps(ctx, s));
    VX_TRY(RotateByOps(ctx, s));
  }
  if (s.hadamard && VX_FAULT("hadamard_last")) VX_TRY(RoundByOps(ctx, s));
  if (s.hadamard) {
    VX_TRY(ForMatrices(s.x, [&](const MutTensorView& x) { return Run<Hadamard>(ctx, {.x = x}); }));
  }
  if (!s.hadamard || !VX_FAULT("hadamard_last")) VX_TRY(RoundByOps(ctx, s));
  return VX_FAULT("stored_too_early") ? Status() : StoreByOps(ctx, s);
}

inline Status FinishByOps(const Context& ctx, const FinishRows::Args& a) {
  for (const FinishRows::Set& s : a.sets) VX_TRY(FinishByOps(ctx, s));
  return {};
}

}  // namespace vexil
