// HeadRms with AVX-512: the same bits as the plain kernel. 16 elements are squared and rounded at a time, and added as
// two times 8 lanes, which is the order that the header fixes.
#include "ops/head_rms/head_rms.h"

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

// The value after a step of the chain: rounded to the activation dtype.
template <class T>
__m512 Rounded(__m512 v) {
  if constexpr (std::is_same_v<T, BF16>) return RoundToBf16(v);
  return v;
}
template <class T>
float Rounded(float v) {
  return ToFloat(FromFloat<T>(v));
}

template <class T>
void NormalizeHead(float eps, T* x, int64_t d) {
  __m256 sum = _mm256_setzero_ps();
  alignas(64) float squares[kLanes];
  for (int64_t i = 0; i < d; i += kLanes) {
    const __m512 v = Load(x + i);
    _mm512_store_ps(squares, Rounded<T>(_mm512_mul_ps(v, v)));
    sum = _mm256_add_ps(sum, _mm256_load_ps(squares));
    sum = _mm256_add_ps(sum, _mm256_load_ps(squares + kLanes / 2));
  }
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  const float total = _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  const float m = Rounded<T>(Rounded<T>(total / float(d)) + eps);
  const __m512 r = _mm512_set1_ps(Rounded<T>(1.0f / std::sqrt(m)));
  for (int64_t i = 0; i < d; i += kLanes) Store(x + i, _mm512_mul_ps(Load(x + i), r));
}

}  // namespace

Support HeadRmsAvx512Supports(const Context& ctx, const HeadRms::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(2) % kLanes == 0, "d must be a multiple of 16");
  return {};
}

Status HeadRmsAvx512(const Context& ctx, const HeadRms::Args& a) {
  constexpr int64_t kHeads = 16;  // some microseconds of work
  const int64_t heads = a.x.dim(1);
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0) * heads, kHeads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        NormalizeHead(a.eps, a.x.MutRow<T>(i / heads) + i % heads * a.x.stride(1), a.x.dim(2));
      }
    });
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
