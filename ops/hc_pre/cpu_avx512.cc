// HcPre with AVX-512: the rows of fn, which are most of the bytes, are read once per 16 tokens and split over threads
// even for one token. Rounding and order of every sum are those of the plain kernel (products and sums round apart,
// lane l of 16 takes c = l mod 16), so both give the same bits.
#include "ops/hc_pre/hc_pre.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "ops/hc_pre/split_mixes.h"
#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AVX512_ATTRIBUTES)
#include "ops/x86/avx512_math.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kTokens = 16;  // that share a pass over fn
constexpr int64_t kRows = 4;     // of fn in flight: enough independent sums
constexpr int64_t kLanes = 16;

inline __m512 Load(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 Load(const BF16* p) { return LoadBf16(p); }
inline void Store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
inline void Store(BF16* p, __m512 v) { StoreBf16(p, v); }

// sums[i] = fn[i] . u for `Rows` rows of fn, each in a chain of its own.
template <int Rows>
void DotRows(const float* const* fn, const float* u, int64_t width, float* sums) {
  __m512 sum[Rows];
  for (int i = 0; i < Rows; ++i) sum[i] = _mm512_setzero_ps();
  for (int64_t c = 0; c < width; c += kLanes) {
    const __m512 v = _mm512_loadu_ps(u + c);
    for (int i = 0; i < Rows; ++i) sum[i] = _mm512_add_ps(sum[i], _mm512_mul_ps(_mm512_loadu_ps(fn[i] + c), v));
  }
  for (int i = 0; i < Rows; ++i) sums[i] = AddLanes(sum[i]);
}

// Streams of token t one after the other as f32, and r.
template <class T>
float Flatten(const HcPre::Args& a, int64_t t, float* u) {
  const int64_t d = a.h.dim(2), m = a.h.dim(1);
  for (int64_t s = 0; s < m; ++s) {
    const T* stream = a.h.Row<T>(t) + s * a.h.stride(1);
    for (int64_t c = 0; c < d; c += kLanes) _mm512_storeu_ps(u + s * d + c, Load(stream + c));
  }
  float squares;
  DotRows<1>(&u, u, m * d, &squares);
  return 1.0f / std::sqrt(squares / float(m * d) + a.norm_eps);
}

template <class T>
void Mix(const float* u, const float* pre, int64_t m, int64_t d, T* x) {
  for (int64_t c = 0; c < d; c += kLanes) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t s = 0; s < m; ++s) {
      sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_set1_ps(pre[s]), _mm512_loadu_ps(u + s * d + c)));
    }
    Store(x + c, sum);
  }
}

// Tokens [begin, begin + count): u [count, m*d], r [count] and mix [count, kMaxMixes] are scratch.
template <class T>
void Tokens(const Context& ctx, const HcPre::Args& a, int64_t begin, int64_t count, float* u, float* r, float* mix) {
  const int64_t m = a.h.dim(1), d = a.h.dim(2), width = m * d, mixes = a.fn.dim(0);
  ctx.For(count, 2, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) r[t] = Flatten<T>(a, begin + t, u + t * width);
  });
  ctx.For((mixes + kRows - 1) / kRows, 1, [&](int64_t first, int64_t last) {
    for (int64_t j = first * kRows; j < std::min(last * kRows, mixes); j += kRows) {
      const float* fn[kRows];
      for (int64_t i = 0; i < kRows; ++i) fn[i] = a.fn.Row<float>(std::min(j + i, mixes - 1));
      for (int64_t t = 0; t < count; ++t) {
        float sums[kRows];
        DotRows<kRows>(fn, u + t * width, width, sums);
        for (int64_t i = 0; i < std::min(kRows, mixes - j); ++i) mix[t * kMaxMixes + j + i] = sums[i] * r[t];
      }
    }
  });
  ctx.For(count, 1, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      float pre[HcPre::kMaxStreams];
      SplitMixes(a, mix + t * kMaxMixes, m, pre, a.post.MutRow<float>(begin + t), a.comb.MutRow<float>(begin + t));
      Mix(u + t * width, pre, m, d, a.x.MutRow<T>(begin + t));
    }
  });
}

}  // namespace

Support HcPreAvx512Supports(const Context& ctx, const HcPre::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(IsFloat(a.h.dtype()), "h must be F32 or BF16");
  VX_REQUIRE(a.h.dim(2) % kLanes == 0, "D must be a multiple of 16");
  return {};
}

Status HcPreAvx512(const Context& ctx, const HcPre::Args& a) {
  const int64_t n = a.h.dim(0), width = a.h.dim(1) * a.h.dim(2), tile = std::min(n, kTokens);
  const Arena::Scope scope(*ctx.workspace);
  float* u = ctx.workspace->Allocate<float>(tile * width);
  float* r = ctx.workspace->Allocate<float>(tile);
  float* mix = ctx.workspace->Allocate<float>(tile * kMaxMixes);
  WithFloatType(a.h.dtype(), [&](auto e) {
    for (int64_t t = 0; t < n; t += kTokens) Tokens<decltype(e)>(ctx, a, t, std::min(kTokens, n - t), u, r, mix);
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
