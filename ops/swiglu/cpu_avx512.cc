// Swiglu with AVX-512, a row per item; exp to within one ulp (ops/x86/avx512_math.h).
#include "ops/swiglu/swiglu.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <limits>

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

float RowWeight(const Swiglu::Args& a, int64_t r) {
  if (a.row_weight.empty()) return 1.0f;
  return a.row_weight.Data<float>()[a.row_index.empty() ? r : a.row_index.Data<int32_t>()[r]];
}

template <class T>
void Row(const Swiglu::Args& a, int64_t r) {
  const __m512 limit = _mm512_set1_ps(a.limit > 0 ? a.limit : std::numeric_limits<float>::infinity());
  const __m512 negative = _mm512_sub_ps(_mm512_setzero_ps(), limit), one = _mm512_set1_ps(1);
  const __m512 weight = _mm512_set1_ps(RowWeight(a, r));
  const T *gates = a.a.Row<T>(r), *ups = a.b.Row<T>(r);
  T* y = a.y.MutRow<T>(r);
  for (int64_t i = 0; i < a.a.dim(1); i += kLanes) {
    const __m512 gate = _mm512_min_ps(limit, Load(gates + i));  // NaN stays
    const __m512 up = _mm512_min_ps(limit, _mm512_max_ps(negative, Load(ups + i)));
    const __m512 silu = _mm512_div_ps(gate, _mm512_add_ps(one, Exp16(_mm512_sub_ps(_mm512_setzero_ps(), gate))));
    Store(y + i, _mm512_mul_ps(_mm512_mul_ps(silu, up), weight));
  }
}

}  // namespace

Support SwigluAvx512Supports(const Context& ctx, const Swiglu::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(IsFloat(a.a.dtype()), "a must be F32 or BF16");
  VX_REQUIRE(a.a.dim(1) % kLanes == 0, "F must be a multiple of 16");
  return {};
}

Status SwigluAvx512(const Context& ctx, const Swiglu::Args& a) {
  constexpr int64_t kRows = 2;  // a few microseconds of work
  WithFloatType(a.a.dtype(), [&](auto e) {
    ctx.For(a.a.dim(0), kRows, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) Row<decltype(e)>(a, r);
    });
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
