// The products of the hyper-connection ops (HcPre, HcHead) in vectors: rows of fn times the residual streams of tokens.
// Order and rounding of every sum are those of LaneDot (ops/hc_pre/hc_math.h), so that all levels give the same bits.
//
// For sources that are compiled once per target. Include after ops/vectors/pack-inl.h.
#if defined(VX_OPS_HC_PRE_MIXES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef VX_OPS_HC_PRE_MIXES_INL
#undef VX_OPS_HC_PRE_MIXES_INL
#else
#define VX_OPS_HC_PRE_MIXES_INL
#endif

#include <algorithm>
#include <cmath>

#include "ops/elements.h"
#include "ops/op.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {

// Tokens that share a pass over fn, and columns of it that stay in the second cache meanwhile.
inline constexpr int64_t kMixTokens = 32, kMixColumns = 1024;
// A register block of sums: as many as the registers hold.
inline constexpr int64_t kMixRows = 4;
inline constexpr int64_t kTokensInFlight = kParts == 1 ? 4 : 1;

// sums[t][i] += fn[i] . h[t] over n columns, for kMixRows rows and `Tokens` tokens.
template <int64_t Tokens, class T>
HWY_INLINE void AddProducts(const float* const* fn, const T* const* h, int64_t n, Floats (*sums)[kMixRows]) {
  Floats sum[Tokens][kMixRows];
  for (int64_t t = 0; t < Tokens; ++t) {
    for (int64_t i = 0; i < kMixRows; ++i) sum[t][i] = sums[t][i];
  }
  for (int64_t c = 0; c < n; c += kLanes) {
    Floats v[Tokens];
    for (int64_t t = 0; t < Tokens; ++t) v[t] = Load(h[t] + c);
    for (int64_t i = 0; i < kMixRows; ++i) {
      const Floats w = Load(fn[i] + c);
      for (int64_t t = 0; t < Tokens; ++t) sum[t][i] = sum[t][i] + w * v[t];
    }
  }
  for (int64_t t = 0; t < Tokens; ++t) {
    for (int64_t i = 0; i < kMixRows; ++i) sums[t][i] = sum[t][i];
  }
}

// mix[t * rows + j] = fn[j] . h[t] for rows j in [first_row, first_row + kMixRows) as far as there are, and `count`
// tokens from `first` on, at most kMixTokens.
template <class T>
void MultiplyStreams(const TensorView& h, const TensorView& fn, int64_t first, int64_t count, int64_t first_row,
                     float* mix) {
  const int64_t rows = fn.dim(0), d = h.dim(2);
  Floats sums[kMixTokens][kMixRows];
  for (int64_t t = 0; t < count; ++t) {
    for (Floats& s : sums[t]) s = Zero();
  }
  for (int64_t c = 0; c < h.dim(1) * d; c = std::min(c + kMixColumns, (c / d + 1) * d)) {
    const int64_t n = std::min(kMixColumns, d - c % d);  // within one stream
    const float* w[kMixRows];
    for (int64_t i = 0; i < kMixRows; ++i) w[i] = fn.Row<float>(std::min(first_row + i, rows - 1)) + c;
    const auto stream = [&](int64_t t) { return h.Row<T>(first + t) + c / d * h.stride(1) + c % d; };
    int64_t t = 0;
    for (; t + kTokensInFlight <= count; t += kTokensInFlight) {
      const T* x[kTokensInFlight];
      for (int64_t i = 0; i < kTokensInFlight; ++i) x[i] = stream(t + i);
      AddProducts<kTokensInFlight, T>(w, x, n, sums + t);
    }
    for (; t < count; ++t) {
      const T* x = stream(t);
      AddProducts<1, T>(w, &x, n, sums + t);
    }
  }
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t i = 0; i < std::min(kMixRows, rows - first_row); ++i) {
      mix[(first + t) * rows + first_row + i] = AddLanes(sums[t][i]);
    }
  }
}

// mix[t, j] = fn[j] . h[t] for all tokens and rows, mix [n, rows]; then finish(begin, end) for all tokens in pieces.
template <class T, class F>
void MultiplyStreams(const Context& ctx, const TensorView& h, const TensorView& fn, float* mix, const F& finish) {
  // Whole tiles are a thread's work, and are finished while they are near. Where there are few of them, the rows are
  // divided too, in pieces of some microseconds.
  constexpr int64_t kManyTiles = 8, kLeastProducts = 65536;
  const int64_t n = h.dim(0), groups = (fn.dim(0) + kMixRows - 1) / kMixRows;
  const int64_t tiles = (n + kMixTokens - 1) / kMixTokens;
  const auto multiply = [&](int64_t tile, int64_t group) {
    const int64_t first = tile * kMixTokens;
    MultiplyStreams<T>(h, fn, first, std::min(kMixTokens, n - first), group * kMixRows, mix);
  };
  if (tiles >= kManyTiles) {
    ctx.For(tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        for (int64_t group = 0; group < groups; ++group) multiply(tile, group);
        finish(tile * kMixTokens, std::min((tile + 1) * kMixTokens, n));
      }
    });
    return;
  }
  const int64_t products = kMixRows * fn.dim(1) * std::min(n, kMixTokens);
  ctx.For(tiles * groups, (kLeastProducts + products - 1) / std::max<int64_t>(products, 1),
          [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) multiply(i / groups, i % groups);
          });
  ctx.For(n, 2, finish);
}

// All of an op: the products in scratch memory [n, rows], then finish(element, begin, end, products) for all tokens in
// pieces, `element` of h's type.
template <class F>
Status WithMixes(const Context& ctx, const TensorView& h, const TensorView& fn, const F& finish) {
  const Arena::Scope scope(*ctx.workspace);
  float* mixes = ctx.workspace->Allocate<float>(h.dim(0) * fn.dim(0));
  WithFloatType(h.dtype(), [&](auto element) {
    MultiplyStreams<decltype(element)>(ctx, h, fn, mixes,
                                       [&](int64_t begin, int64_t end) { finish(element, begin, end, mixes); });
  });
  return {};
}

// 1 / sqrt( mean of the squares of token t + eps ).
template <class T>
float InverseRmsOfStreams(const TensorView& h, int64_t t, float eps) {
  Floats sum = Zero();
  for (int64_t s = 0; s < h.dim(1); ++s) {
    const T* stream = h.Row<T>(t) + s * h.stride(1);
    for (int64_t c = 0; c < h.dim(2); c += kLanes) {
      const Floats v = Load(stream + c);
      sum = sum + v * v;
    }
  }
  return 1.0f / std::sqrt(AddLanes(sum) / float(h.dim(1) * h.dim(2)) + eps);
}

// x[c] = sum_s pre[s] * h[t, s, c].
template <class T>
void MixStreamsInto(const TensorView& h, int64_t t, const float* pre, T* x) {
  const T* streams = h.Row<T>(t);
  for (int64_t c = 0; c < h.dim(2); c += kLanes) {
    Floats sum = Zero();
    for (int64_t s = 0; s < h.dim(1); ++s) sum = sum + Set(pre[s]) * Load(streams + s * h.stride(1) + c);
    Store(sum, x + c);
  }
}

}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
