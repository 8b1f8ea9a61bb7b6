// Hadamard in vectors: distances below 16 within a pack's lanes, the others between packs. Every stage adds and
// subtracts the same pairs as the plain kernel: the same bits.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/hadamard/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "ops/elements.h"
#include "ops/hadamard/hadamard.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

inline constexpr int64_t kMaxWidth = 1024;

// Stages at distances 1 to 8 of 16 values: each value of a pair meets its partner, which `Partner` brings to its lane;
// the upper one is negated, so that a sum is a + b in the lower lane and a - b in the upper.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE Floats Stages16(Floats v) {
  for (size_t distance = 1; distance < kParts; distance *= 2) {
    for (size_t i = 0; i < kParts; ++i) {
      if (i & distance) continue;
      const auto a = v.part[i], b = v.part[i + distance];
      v.part[i] = hn::Add(a, b);
      v.part[i + distance] = hn::Sub(a, b);
    }
  }
  return v;
}
#else
using Vector = hn::Vec<D>;

// The lanes at kDistance of v, in each vector of a pack.
template <size_t kDistance>
HWY_INLINE Vector Partner(Vector v) {
  if constexpr (kDistance == 1) return hn::Reverse2(D(), v);
  if constexpr (kDistance == 2) return hn::Shuffle1032(v);
  alignas(64) static constexpr uint32_t kSwapped4[] = {4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11};
  alignas(64) static constexpr uint32_t kSwapped8[] = {8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7};
  return hn::TableLookupLanes(v, hn::SetTableIndices(D(), kDistance == 4 ? kSwapped4 : kSwapped8));
}

template <size_t kDistance>
HWY_INLINE Floats StageWithin(const Floats& v) {
  const D d;
  const DU du;
  const auto lane = hn::Iota(du, 0);
  const auto sign = hn::BitCast(d, hn::ShiftLeft<31>(hn::ShiftRight<(kDistance == 1   ? 0
                                                                     : kDistance == 2 ? 1
                                                                     : kDistance == 4 ? 2
                                                                                      : 3)>(lane)));
  Floats r;
  for (size_t i = 0; i < kParts; ++i) r.part[i] = hn::Add(hn::Xor(v.part[i], sign), Partner<kDistance>(v.part[i]));
  return r;
}

// A stage between the vectors of a pack, `apart` from each other.
HWY_INLINE Floats StageBetween(const Floats& v, size_t apart) {
  Floats r;
  for (size_t i = 0; i < kParts; ++i) {
    const auto a = v.part[i & ~apart], b = v.part[(i & ~apart) + apart];
    r.part[i] = i & apart ? hn::Sub(a, b) : hn::Add(a, b);
  }
  return r;
}

template <size_t kDistance>
HWY_INLINE Floats StageAt(const Floats& v) {
  if constexpr (kDistance < kPartLanes) {
    return StageWithin<kDistance>(v);
  } else {
    return StageBetween(v, kDistance / kPartLanes);
  }
}
HWY_INLINE Floats Stages16(const Floats& v) { return StageAt<8>(StageAt<4>(StageAt<2>(StageAt<1>(v)))); }
#endif

template <class T>
void HadamardRow(T* x, int64_t d, float factor) {
  alignas(64) float v[kMaxWidth];
  for (int64_t i = 0; i < d; i += kLanes) Store(Stages16(Load(x + i)), v + i);
  for (int64_t distance = kLanes; distance < d; distance *= 2) {
    for (int64_t begin = 0; begin < d; begin += 2 * distance) {
      for (int64_t i = begin; i < begin + distance; i += kLanes) {
        const Floats a = Load(v + i), b = Load(v + i + distance);
        Store(a + b, v + i);
        Store(a - b, v + i + distance);
      }
    }
  }
  for (int64_t i = 0; i < d; i += kLanes) Store(Load(v + i) * Set(factor), x + i);
}

Status HadamardVectors(const Context& ctx, const Hadamard::Args& a) {
  constexpr int64_t kRows = 64;  // some microseconds of work
  const float factor = float(1.0 / std::sqrt(double(a.x.dim(1))));
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0), kRows, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) HadamardRow(a.x.MutRow<T>(r), a.x.dim(1), factor);
    });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support HadamardVectorsSupport(const Context&, const Hadamard::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % 16 == 0 && a.x.dim(1) <= 1024, "d must be a multiple of 16 up to 1024");
  return {};
}

HWY_EXPORT(HadamardVectors);
VX_VECTOR_KERNELS(Hadamard)

}  // namespace vexil::cpu
#endif
