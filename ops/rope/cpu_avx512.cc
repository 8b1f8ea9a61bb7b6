// Rope of BF16 heads with AVX-512: a pair is one 32-bit word, 16 pairs at a time. Rotations are those of the plain
// kernel (cos and sin in f64), products and sums round apart: the same bits.
#include "ops/rope/rope.h"

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
constexpr int64_t kMaxPairs = 64;

struct Rotations {
  alignas(64) float cos[kMaxPairs], sin[kMaxPairs];
};

void RotationsAt(int32_t t, const Rope::Args& a, Rotations& r) {
  const float* freqs = a.freqs.Data<float>();
  for (int64_t i = 0; i < a.freqs.dim(0); ++i) {
    const float angle = float(t) * freqs[i];
    const float sin = float(std::sin(double(angle)));
    r.cos[i] = float(std::cos(double(angle)));
    r.sin[i] = a.inverse ? -sin : sin;
  }
}

void RotateHead(const Rotations& r, int64_t pairs, BF16* x) {
  for (int64_t i = 0; i < pairs; i += kLanes) {
    const __m512i words = _mm512_loadu_si512(x + 2 * i);
    const __m512 a = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    const __m512 b = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(int(0xffff0000))));
    const __m512 cos = _mm512_load_ps(r.cos + i), sin = _mm512_load_ps(r.sin + i);
    const __m512i first = RoundBf16Bits(_mm512_sub_ps(_mm512_mul_ps(a, cos), _mm512_mul_ps(b, sin)));
    const __m512i second = RoundBf16Bits(_mm512_add_ps(_mm512_mul_ps(a, sin), _mm512_mul_ps(b, cos)));
    _mm512_storeu_si512(x + 2 * i, _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(first, 16), second));
  }
}

}  // namespace

Support RopeAvx512Supports(const Context& ctx, const Rope::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(a.x.dtype() == DType::kBF16, "x must be BF16");
  VX_REQUIRE(a.freqs.dim(0) % kLanes == 0 && a.freqs.dim(0) <= kMaxPairs, "pairs must be a multiple of 16 up to 64");
  return {};
}

Status RopeAvx512(const Context& ctx, const Rope::Args& a) {
  const int64_t pairs = a.freqs.dim(0), first_channel = a.x.dim(2) - 2 * pairs;
  ctx.For(a.x.dim(0), 4, [&](int64_t begin, int64_t end) {
    Rotations rotations;
    for (int64_t t = begin; t < end; ++t) {
      RotationsAt(a.positions.Data<int32_t>()[t], a, rotations);
      for (int64_t h = 0; h < a.x.dim(1); ++h) {
        RotateHead(rotations, pairs, a.x.MutRow<BF16>(t) + h * a.x.stride(1) + first_channel);
      }
    }
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
