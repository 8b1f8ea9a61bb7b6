// Rope of BF16 heads in vectors: a pair is one 32-bit word, 16 pairs at a time. Rotations are those of the plain kernel
// (cos and sin in f64), products and sums round apart: the same bits.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/rope/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "ops/elements.h"
#include "ops/rope/rope.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

inline constexpr int64_t kMaxPairs = 64;

struct Rotations {
  alignas(64) float cos[kMaxPairs], sin[kMaxPairs];
};

inline void RotationsAt(int32_t t, const Rope::Args& a, Rotations& r) {
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
    const Words w = LoadPairs(x + 2 * i);
    const Floats a = FromBits(ShiftLeft<16>(w)), b = FromBits(w & SetWords(0xffff0000u));
    const Floats cos = Load(r.cos + i), sin = Load(r.sin + i);
    const Words first = RoundBf16Bits(a * cos - b * sin), second = RoundBf16Bits(a * sin + b * cos);
    StorePairs(ShiftRight<16>(first) | (second & SetWords(0xffff0000u)), x + 2 * i);
  }
}

Status RopeVectors(const Context& ctx, const Rope::Args& a) {
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

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support RopeVectorsSupport(const Context&, const Rope::Args& a) {
  VX_REQUIRE(a.x.dtype() == DType::kBF16, "x must be BF16");
  VX_REQUIRE(a.freqs.dim(0) % 16 == 0 && a.freqs.dim(0) <= 64, "pairs must be a multiple of 16 up to 64");
  return {};
}

HWY_EXPORT(RopeVectors);
VX_VECTOR_KERNELS(Rope)

}  // namespace vexil::cpu
#endif
