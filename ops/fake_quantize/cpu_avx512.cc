// FakeQuantize with AVX-512: the same bits as the plain kernel. A value is rounded to the target's mantissa by integer
// arithmetic on its bits; where the target is subnormal its values are multiples of a step.
#include "ops/fake_quantize/fake_quantize.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include "ops/elements.h"
#include "ops/quantize_activation/block_scale.h"
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

struct E4m3Target {
  static constexpr ScaleRule kRule = kE4M3Scale;
  static constexpr int kDroppedBits = 20;  // of the f32 mantissa
  static constexpr float kLeastNormal = 0x1p-6f, kStep = 0x1p-9f;
};
struct E2m1Target {
  static constexpr ScaleRule kRule = kE2M1Scale;
  static constexpr int kDroppedBits = 22;
  static constexpr float kLeastNormal = 1, kStep = 0.5f;
};

// The nearest value of the target, ties to even; v is within its range or NaN.
template <class Target>
__m512 Round(__m512 v) {
  constexpr int kBits = Target::kDroppedBits;
  const __m512i u = _mm512_castps_si512(v), a = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(a, kBits), _mm512_set1_epi32(1));
  const __m512i carried = _mm512_add_epi32(_mm512_add_epi32(a, odd), _mm512_set1_epi32((1 << (kBits - 1)) - 1));
  __m512 magnitude = _mm512_castsi512_ps(_mm512_and_si512(carried, _mm512_set1_epi32(-(1 << kBits))));
  const __mmask16 subnormal =
      _mm512_cmp_ps_mask(_mm512_castsi512_ps(a), _mm512_set1_ps(Target::kLeastNormal), _CMP_LT_OQ);
  const __m512 steps = _mm512_roundscale_ps(_mm512_mul_ps(_mm512_castsi512_ps(a), _mm512_set1_ps(1 / Target::kStep)),
                                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  magnitude = _mm512_mask_mul_ps(magnitude, subnormal, steps, _mm512_set1_ps(Target::kStep));
  const __m512i sign = _mm512_and_si512(u, _mm512_set1_epi32(int(0x80000000)));
  const __m512 rounded = _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(magnitude), sign));
  return _mm512_mask_mov_ps(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), v);
}

// n is a multiple of 16.
template <class Target, class T>
void RoundBlock(T* x, int64_t n) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m512i a = _mm512_and_si512(_mm512_castps_si512(Load(x + i)), _mm512_set1_epi32(0x7fffffff));
    largest = _mm512_max_epu32(largest, a);
  }
  const float amax = std::bit_cast<float>(LargestLane(largest));
  const float scale_value = E8M0::FromExponent(ScaleExponent(amax, Target::kRule)).ToFloat();
  const __m512 scale = _mm512_set1_ps(scale_value), inverse = _mm512_set1_ps(1.0f / scale_value);
  const __m512 max = _mm512_set1_ps(Target::kRule.max), min = _mm512_set1_ps(-Target::kRule.max);
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m512 v = _mm512_mul_ps(Load(x + i), inverse);
    const __m512 clamped = _mm512_min_ps(max, _mm512_max_ps(min, v));  // NaN stays
    Store(x + i, _mm512_mul_ps(Round<Target>(clamped), scale));
  }
}

template <class Target, class T>
void Rows(const FakeQuantize::Args& a, int64_t row_begin, int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; ++r) {
    T* x = a.x.MutRow<T>(r);
    for (int64_t begin = 0; begin < a.x.dim(1); begin += a.block) {
      RoundBlock<Target>(x + begin, std::min(a.block, a.x.dim(1) - begin));
    }
  }
}

}  // namespace

Support FakeQuantizeAvx512Supports(const Context& ctx, const FakeQuantize::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % kLanes == 0 && a.block % kLanes == 0, "columns and the block must be multiples of 16");
  return {};
}

Status FakeQuantizeAvx512(const Context& ctx, const FakeQuantize::Args& a) {
  constexpr int64_t kRows = 32;  // some microseconds of work
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0), kRows, [&](int64_t begin, int64_t end) {
      a.format == FakeQuantize::Format::kE4M3 ? Rows<E4m3Target, T>(a, begin, end) : Rows<E2m1Target, T>(a, begin, end);
    });
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
