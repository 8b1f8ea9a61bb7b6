// QuantizeActivation with AVX-512: the same bits as the plain kernel, 16 elements at a time.
#include "ops/quantize_activation/quantize_activation.h"

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

// E4M3::From (base/float_formats.h) of each lane, for values within +-448 and NaN.
inline __m128i E4m3Codes(__m512 v) {
  const __m512i u = _mm512_castps_si512(v);
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(u, 24), _mm512_set1_epi32(0x80));
  const __m512i a = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(a, 20), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(a, odd), _mm512_set1_epi32(0x7ffff - (120 << 23)));
  __m512i code = _mm512_srli_epi32(rounded, 20);
  // Below 2^-6: multiples of 2^-9.
  const __mmask16 small = _mm512_cmplt_epu32_mask(a, _mm512_set1_epi32(0x3c800000));
  code = _mm512_mask_cvtps_epi32(code, small, _mm512_mul_ps(_mm512_castsi512_ps(a), _mm512_set1_ps(512)));
  const __mmask16 nan = _mm512_cmpgt_epu32_mask(a, _mm512_set1_epi32(0x7f800000));
  code = _mm512_mask_mov_epi32(code, nan, _mm512_set1_epi32(0x7f));
  return _mm512_cvtepi32_epi8(_mm512_or_si512(code, sign));
}

// n is a multiple of 16.
template <class T>
E8M0 QuantizeBlock(const T* x, int64_t n, E4M3* codes) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m512i a = _mm512_and_si512(_mm512_castps_si512(Load(x + i)), _mm512_set1_epi32(0x7fffffff));
    largest = _mm512_max_epu32(largest, a);
  }
  const float amax = std::bit_cast<float>(LargestLane(largest));
  const E8M0 scale = E8M0::FromExponent(ScaleExponent(amax, kE4M3Scale));
  const __m512 inverse = _mm512_set1_ps(1.0f / scale.ToFloat());
  const __m512 max = _mm512_set1_ps(E4M3::kMax), min = _mm512_set1_ps(-E4M3::kMax);
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m512 v = _mm512_mul_ps(Load(x + i), inverse);
    const __m512 clamped = _mm512_min_ps(max, _mm512_max_ps(min, v));  // NaN stays
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), E4m3Codes(clamped));
  }
  return scale;
}

}  // namespace

Support QuantizeActivationAvx512Supports(const Context& ctx, const QuantizeActivation::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % kLanes == 0 && a.block % kLanes == 0, "K and the block must be multiples of 16");
  return {};
}

Status QuantizeActivationAvx512(const Context& ctx, const QuantizeActivation::Args& a) {
  constexpr int64_t kBlocks = 64;  // a few microseconds of work
  const int64_t width = a.x.dim(1), blocks = a.scale.dim(1);
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0) * blocks, kBlocks, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t r = i / blocks, at = i % blocks * a.block, n = std::min(a.block, width - at);
        a.scale.MutRow<E8M0>(r)[i % blocks] = QuantizeBlock(a.x.Row<T>(r) + at, n, a.codes.MutRow<E4M3>(r) + at);
      }
    });
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
