// RmsNorm with AVX-512: one row per item. The sum of squares runs in 16 lanes (lane l takes i = l mod 16, products and
// sums round apart), then the lanes are added in halves. Bytes moved: x twice (the second time from the first cache),
// the weight and y once.
#include "ops/rms_norm/rms_norm.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <cmath>

#include "ops/elements.h"
#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AVX512_ATTRIBUTES)
#include "ops/x86/avx512_math.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kLanes = 16;

inline __m512 Load(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 Load(const BF16* p) { return LoadBf16(p); }
inline void Store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
inline void Store(BF16* p, __m512 v) { StoreBf16(p, v); }

template <class T, class W>
void Row(const T* x, const W* w, int64_t d, float eps, T* y) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < d; i += kLanes) {
    const __m512 v = Load(x + i);
    sum = _mm512_add_ps(sum, _mm512_mul_ps(v, v));
  }
  const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(AddLanes(sum) / float(d) + eps));
  for (int64_t i = 0; i < d; i += kLanes) {
    Store(y + i, _mm512_mul_ps(Load(w + i), _mm512_mul_ps(Load(x + i), scale)));
  }
}

}  // namespace

Support RmsNormAvx512Supports(const Context& ctx, const RmsNorm::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(IsFloat(a.weight.dtype()), "weight must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % kLanes == 0, "d must be a multiple of 16");
  return {};
}

Status RmsNormAvx512(const Context& ctx, const RmsNorm::Args& a) {
  constexpr int64_t kRows = 8;  // a few microseconds of work
  WithFloatType(a.x.dtype(), [&](auto x) {
    using T = decltype(x);
    WithFloatType(a.weight.dtype(), [&](auto w) {
      using W = decltype(w);
      ctx.For(a.x.dim(0), kRows, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          Row(a.x.Row<T>(r), a.weight.Data<W>(), a.x.dim(1), a.eps, a.y.MutRow<T>(r));
        }
      });
    });
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
