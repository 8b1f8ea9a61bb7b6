// FakeQuantize in vectors: the same bits as the plain kernel. A value is rounded to the target's mantissa by integer
// arithmetic on its bits; where the target is subnormal its values are multiples of a step.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/fake_quantize/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/elements.h"
#include "ops/fake_quantize/fake_quantize.h"
#include "ops/quantize_activation/block_scale.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

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
HWY_INLINE Floats RoundToTarget(const Floats& v) {
  constexpr int kBits = Target::kDroppedBits;
  const Words u = Bits(v), a = u & SetWords(0x7fffffff), odd = ShiftRight<kBits>(a) & SetWords(1);
  const Words carried = (a + odd + SetWords((1u << (kBits - 1)) - 1)) & SetWords(0u - (1u << kBits));
  const Floats steps = Round(FromBits(a) * Set(1 / Target::kStep)) * Set(Target::kStep);
  const Floats magnitude = Select(FromBits(a) < Set(Target::kLeastNormal), steps, FromBits(carried));
  return Select(IsNaN(v), v, FromBits(Bits(magnitude) | (u & SetWords(0x80000000u))));
}

// n is a multiple of 16.
template <class Target, class T>
void RoundBlock(T* x, int64_t n) {
  const float s = E8M0::FromExponent(ScaleExponent(LargestMagnitude(x, n), Target::kRule)).ToFloat();
  const Floats scale = Set(s), inverse = Set(1.0f / s), max = Set(Target::kRule.max), min = Set(-Target::kRule.max);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats clamped = AtMost(max, AtLeast(min, Load(x + i) * inverse));
    Store(RoundToTarget<Target>(clamped) * scale, x + i);
  }
}

template <class Target, class T>
void FakeQuantizeRows(const FakeQuantize::Args& a, int64_t row_begin, int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; ++r) {
    T* x = a.x.MutRow<T>(r);
    for (int64_t begin = 0; begin < a.x.dim(1); begin += a.block) {
      RoundBlock<Target>(x + begin, std::min(a.block, a.x.dim(1) - begin));
    }
  }
}

Status FakeQuantizeVectors(const Context& ctx, const FakeQuantize::Args& a) {
  constexpr int64_t kRows = 32;  // some microseconds of work
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0), kRows, [&](int64_t begin, int64_t end) {
      a.format == FakeQuantize::Format::kE4M3 ? FakeQuantizeRows<E4m3Target, T>(a, begin, end)
                                              : FakeQuantizeRows<E2m1Target, T>(a, begin, end);
    });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support FakeQuantizeVectorsSupport(const Context&, const FakeQuantize::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % 16 == 0 && a.block % 16 == 0, "columns and the block must be multiples of 16");
  return {};
}

HWY_EXPORT(FakeQuantizeVectors);
VX_VECTOR_KERNELS(FakeQuantize)

}  // namespace vexil::cpu
#endif
