// QuantizeActivation in vectors: the same bits as the plain kernel, 16 elements at a time.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/quantize_activation/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/elements.h"
#include "ops/quantize_activation/block_scale.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

// E4M3::From (base/float_formats.h) of each lane, for values within +-448 and NaN.
HWY_INLINE Words E4m3Codes(const Floats& v) {
  const Words u = Bits(v), sign = ShiftRight<24>(u) & SetWords(0x80), a = u & SetWords(0x7fffffff);
  const Words odd = ShiftRight<20>(a) & SetWords(1);
  const Words normal = ShiftRight<20>(a + odd + SetWords(0x7ffffu - (120u << 23)));
  const Floats magnitude = FromBits(a);
  // Below 2^-6: multiples of 2^-9.
  const Words subnormal = ToIntegers(magnitude * Set(512));
  const Floats finite = Select(magnitude < Set(0x1p-6f), FromBits(subnormal), FromBits(normal));
  return Bits(Select(IsNaN(v), FromBits(SetWords(0x7f)), finite)) | sign;
}

// n is a multiple of 16.
template <class T>
E8M0 QuantizeBlock(const T* x, int64_t n, E4M3* codes) {
  const E8M0 scale = E8M0::FromExponent(ScaleExponent(LargestMagnitude(x, n), kE4M3Scale));
  const Floats inverse = Set(1.0f / scale.ToFloat()), max = Set(E4M3::kMax), min = Set(-E4M3::kMax);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats clamped = AtMost(max, AtLeast(min, Load(x + i) * inverse));
    StoreBytes(E4m3Codes(clamped), reinterpret_cast<uint8_t*>(codes + i));
  }
  return scale;
}

Status QuantizeActivationVectors(const Context& ctx, const QuantizeActivation::Args& a) {
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

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support QuantizeActivationVectorsSupport(const Context&, const QuantizeActivation::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % 16 == 0 && a.block % 16 == 0, "K and the block must be multiples of 16");
  return {};
}

HWY_EXPORT(QuantizeActivationVectors);
VX_VECTOR_KERNELS(QuantizeActivation)

}  // namespace vexil::cpu
#endif
