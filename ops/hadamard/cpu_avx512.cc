// Hadamard with AVX-512: distances below 16 by shuffles within a vector, the others between vectors. Every stage adds
// and subtracts the same pairs as the plain kernel: the same bits.
#include "ops/hadamard/hadamard.h"

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

constexpr int64_t kLanes = 16, kMaxWidth = 1024;

inline __m512 Load(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 Load(const BF16* p) { return LoadBf16(p); }
inline void Store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
inline void Store(BF16* p, __m512 v) { StoreBf16(p, v); }

// a + b in the lower lane of each pair at this distance, a - b in the upper.
template <int kDistance>
__m512 Stage(__m512 v) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 partner = _mm512_permutexvar_ps(_mm512_xor_si512(lane, _mm512_set1_epi32(kDistance)), v);
  const __mmask16 upper = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(kDistance));
  return _mm512_mask_sub_ps(_mm512_add_ps(v, partner), upper, partner, v);
}

template <class T>
void Row(T* x, int64_t d, float factor) {
  alignas(64) float v[kMaxWidth];
  for (int64_t i = 0; i < d; i += kLanes) _mm512_store_ps(v + i, Stage<8>(Stage<4>(Stage<2>(Stage<1>(Load(x + i))))));
  for (int64_t distance = kLanes; distance < d; distance *= 2) {
    for (int64_t begin = 0; begin < d; begin += 2 * distance) {
      for (int64_t i = begin; i < begin + distance; i += kLanes) {
        const __m512 a = _mm512_load_ps(v + i), b = _mm512_load_ps(v + i + distance);
        _mm512_store_ps(v + i, _mm512_add_ps(a, b));
        _mm512_store_ps(v + i + distance, _mm512_sub_ps(a, b));
      }
    }
  }
  for (int64_t i = 0; i < d; i += kLanes) Store(x + i, _mm512_mul_ps(_mm512_load_ps(v + i), _mm512_set1_ps(factor)));
}

}  // namespace

Support HadamardAvx512Supports(const Context& ctx, const Hadamard::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % kLanes == 0 && a.x.dim(1) <= kMaxWidth, "d must be a multiple of 16 up to 1024");
  return {};
}

Status HadamardAvx512(const Context& ctx, const Hadamard::Args& a) {
  constexpr int64_t kRows = 64;  // some microseconds of work
  const float factor = float(1.0 / std::sqrt(double(a.x.dim(1))));
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0), kRows, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) Row(a.x.MutRow<T>(r), a.x.dim(1), factor);
    });
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
