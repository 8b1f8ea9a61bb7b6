// Sixteen lanes on every processor: one AVX-512 vector, two of AVX2, four of SSE4 or NEON. A kernel that is written in
// packs sums in the same lanes everywhere, so its bits depend on the vector width only where a comment says so.
//
// For sources that are compiled once per target (ops/vectors/targets.h). Include after <hwy/highway.h>.
#if defined(VX_OPS_VECTORS_PACK_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef VX_OPS_VECTORS_PACK_INL
#undef VX_OPS_VECTORS_PACK_INL
#else
#define VX_OPS_VECTORS_PACK_INL
#endif

#include <hwy/highway.h>

#include <bit>
#include <cstdint>

#include "base/float_formats.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr int64_t kLanes = 16;
using D = hn::CappedTag<float, kLanes>;
using DU = hn::RebindToUnsigned<D>;
using DI = hn::RebindToSigned<D>;
inline constexpr size_t kPartLanes = hn::MaxLanes(D()), kParts = kLanes / kPartLanes;

template <class V>
struct Pack {
  // Not left to the compiler, which would make it without the target's instructions and then not inline it.
  HWY_INLINE Pack() {}
  V part[kParts];
};
using Floats = Pack<hn::Vec<D>>;
using Words = Pack<hn::Vec<DU>>;     // the bits of floats, or unsigned integers
using LaneMask = Pack<hn::Mask<D>>;  // true or false per lane

// The function's result r, part by part.
#define VX_PARTS(expression)                                  \
  for (size_t i = 0; i < kParts; ++i) r.part[i] = expression; \
  return r

HWY_INLINE Floats Set(float v) {
  Floats r;
  VX_PARTS(hn::Set(D(), v));
}
HWY_INLINE Floats Zero() { return Set(0); }
HWY_INLINE Words SetWords(uint32_t v) {
  Words r;
  VX_PARTS(hn::Set(DU(), v));
}

HWY_INLINE Floats Load(const float* p) {
  Floats r;
  VX_PARTS(hn::LoadU(D(), p + i * kPartLanes));
}
HWY_INLINE Floats Load(const BF16* p) {
  const hn::Rebind<uint16_t, D> narrow;
  const uint16_t* bits = reinterpret_cast<const uint16_t*>(p);
  Floats r;
  VX_PARTS(hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), hn::LoadU(narrow, bits + i * kPartLanes)))));
}

// Neighbouring pairs of 16-bit elements as words, the first in the lower half.
HWY_INLINE Words LoadPairs(const BF16* p) {
  const uint32_t* words = reinterpret_cast<const uint32_t*>(p);
  Words r;
  VX_PARTS(hn::LoadU(DU(), words + i * kPartLanes));
}
HWY_INLINE void StorePairs(const Words& v, BF16* p) {
  uint32_t* words = reinterpret_cast<uint32_t*>(p);
  for (size_t i = 0; i < kParts; ++i) hn::StoreU(v.part[i], DU(), words + i * kPartLanes);
}

HWY_INLINE Floats operator+(const Floats& a, const Floats& b) {
  Floats r;
  VX_PARTS(hn::Add(a.part[i], b.part[i]));
}
HWY_INLINE Floats operator-(const Floats& a, const Floats& b) {
  Floats r;
  VX_PARTS(hn::Sub(a.part[i], b.part[i]));
}
HWY_INLINE Floats operator*(const Floats& a, const Floats& b) {
  Floats r;
  VX_PARTS(hn::Mul(a.part[i], b.part[i]));
}
HWY_INLINE Floats operator/(const Floats& a, const Floats& b) {
  Floats r;
  VX_PARTS(hn::Div(a.part[i], b.part[i]));
}
// a * b + c. Rounded once, but on SSE4, which rounds twice.
HWY_INLINE Floats MulAdd(const Floats& a, const Floats& b, const Floats& c) {
  Floats r;
  VX_PARTS(hn::MulAdd(a.part[i], b.part[i], c.part[i]));
}
HWY_INLINE Floats Sqrt(const Floats& v) {
  Floats r;
  VX_PARTS(hn::Sqrt(v.part[i]));
}
// To an integer, ties to even.
HWY_INLINE Floats Round(const Floats& v) {
  Floats r;
  VX_PARTS(hn::Round(v.part[i]));
}
HWY_INLINE Floats Abs(const Floats& v) {
  Floats r;
  VX_PARTS(hn::Abs(v.part[i]));
}

// Lanes of a comparison; false where an operand is NaN.
HWY_INLINE LaneMask operator<(const Floats& a, const Floats& b) {
  LaneMask r;
  VX_PARTS(hn::Lt(a.part[i], b.part[i]));
}
HWY_INLINE LaneMask IsNaN(const Floats& v) {
  LaneMask r;
  VX_PARTS(hn::IsNaN(v.part[i]));
}
HWY_INLINE Floats Select(const LaneMask& mask, const Floats& yes, const Floats& no) {
  Floats r;
  VX_PARTS(hn::IfThenElse(mask.part[i], yes.part[i], no.part[i]));
}

// v with an upper or a lower limit. NaN stays: on x86 the second operand of max and min wins against NaN.
HWY_INLINE Floats AtMost(const Floats& limit, const Floats& v) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  Floats r;
  VX_PARTS(hn::Min(limit.part[i], v.part[i]));
#else
  return Select(limit < v, limit, v);
#endif
}
HWY_INLINE Floats AtLeast(const Floats& limit, const Floats& v) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  Floats r;
  VX_PARTS(hn::Max(limit.part[i], v.part[i]));
#else
  return Select(v < limit, limit, v);
#endif
}

// The larger of a number and v; the number where v is NaN.
HWY_INLINE Floats AtLeastNumber(const Floats& number, const Floats& v) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  Floats r;
  VX_PARTS(hn::Max(v.part[i], number.part[i]));
#else
  return Select(number < v, v, number);
#endif
}

HWY_INLINE Words Bits(const Floats& v) {
  Words r;
  VX_PARTS(hn::BitCast(DU(), v.part[i]));
}
HWY_INLINE Floats FromBits(const Words& v) {
  Floats r;
  VX_PARTS(hn::BitCast(D(), v.part[i]));
}
HWY_INLINE Words operator+(const Words& a, const Words& b) {
  Words r;
  VX_PARTS(hn::Add(a.part[i], b.part[i]));
}
HWY_INLINE Words operator&(const Words& a, const Words& b) {
  Words r;
  VX_PARTS(hn::And(a.part[i], b.part[i]));
}
HWY_INLINE Words operator|(const Words& a, const Words& b) {
  Words r;
  VX_PARTS(hn::Or(a.part[i], b.part[i]));
}
HWY_INLINE Words Max(const Words& a, const Words& b) {
  Words r;
  VX_PARTS(hn::Max(a.part[i], b.part[i]));
}
template <int kBits>
HWY_INLINE Words ShiftRight(const Words& v) {
  Words r;
  VX_PARTS(hn::ShiftRight<kBits>(v.part[i]));
}
template <int kBits>
HWY_INLINE Words ShiftLeft(const Words& v) {
  Words r;
  VX_PARTS(hn::ShiftLeft<kBits>(v.part[i]));
}
// The nearest integers, ties to even, of values in [0, 2^22], as unsigned integers.
HWY_INLINE Words ToIntegers(const Floats& v) { return Bits(v + Set(0x1p23f)) & SetWords(0x7fffff); }

// Rounds to BF16, ties to even, in the upper half of each word; NaN becomes some NaN.
HWY_INLINE Words RoundBf16Bits(const Floats& v) {
  const Words u = Bits(v), rounded = u + SetWords(0x7fff) + (ShiftRight<16>(u) & SetWords(1));
  return Bits(Select(IsNaN(v), FromBits(u | SetWords(0x400000)), FromBits(rounded)));
}
HWY_INLINE Floats RoundToBf16(const Floats& v) { return FromBits(RoundBf16Bits(v) & SetWords(0xffff0000u)); }

HWY_INLINE void Store(const Floats& v, float* p) {
  for (size_t i = 0; i < kParts; ++i) hn::StoreU(v.part[i], D(), p + i * kPartLanes);
}
// The lower half of each word.
HWY_INLINE void StoreHalves(const Words& v, uint16_t* p) {
  const hn::Rebind<uint16_t, D> narrow;
  for (size_t i = 0; i < kParts; ++i) {
    hn::StoreU(hn::TruncateTo(narrow, v.part[i]), narrow, p + i * kPartLanes);
  }
}
// The lowest byte of each word.
HWY_INLINE void StoreBytes(const Words& v, uint8_t* p) {
  const hn::Rebind<uint8_t, D> narrow;
  for (size_t i = 0; i < kParts; ++i) {
    hn::StoreU(hn::TruncateTo(narrow, v.part[i]), narrow, p + i * kPartLanes);
  }
}
HWY_INLINE void Store(const Floats& v, BF16* p) {
  StoreHalves(ShiftRight<16>(RoundBf16Bits(v)), reinterpret_cast<uint16_t*>(p));
}

// The sum of the lanes, added in halves, l + (l + 8), ..., l + (l + 1).
HWY_INLINE float AddLanes(const Floats& v) {
  alignas(64) float lanes[kLanes];
  Store(v, lanes);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}
// The sum of the lanes in the order that is fastest with these vectors.
HWY_INLINE float SumLanes(const Floats& v) {
  auto sum = v.part[0];
  for (size_t i = 1; i < kParts; ++i) sum = hn::Add(sum, v.part[i]);
  return hn::GetLane(hn::SumOfLanes(D(), sum));
}
// A sum in 8 lanes: lane l takes the elements i = l (mod 8) in ascending order; then the lanes are added in halves.
class EightSums {
 public:
  HWY_INLINE EightSums() {
    for (auto& sum : sum_) sum = hn::Zero(D8());
  }
  // Adds the lanes below 8, then the others.
  template <class Pack16>
  HWY_INLINE void Add(const Pack16& v) {
    if constexpr (kPartLanes <= 8) {
      for (size_t i = 0; i < kParts; ++i) sum_[i % kSums] = hn::Add(sum_[i % kSums], v.part[i]);
    } else {
      alignas(64) float lanes[kLanes];
      Store(v, lanes);
      sum_[0] = hn::Add(sum_[0], hn::Load(D8(), lanes));
      sum_[0] = hn::Add(sum_[0], hn::Load(D8(), lanes + 8));
    }
  }
  HWY_INLINE float Total() const {
    alignas(32) float lanes[8];
    for (size_t i = 0; i < kSums; ++i) hn::Store(sum_[i], D8(), lanes + i * hn::MaxLanes(D8()));
    for (int half = 4; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    }
    return lanes[0];
  }

 private:
  using D8 = hn::CappedTag<float, 8>;
  static constexpr size_t kSums = 8 / hn::MaxLanes(D8());
  hn::Vec<D8> sum_[kSums];
};
// The largest lane of floats, none of them NaN.
HWY_INLINE float LargestFloat(const Floats& v) {
  auto largest = v.part[0];
  for (size_t i = 1; i < kParts; ++i) largest = hn::Max(largest, v.part[i]);
  return hn::GetLane(hn::MaxOfLanes(D(), largest));
}
// The largest lane.
HWY_INLINE uint32_t LargestLane(const Words& v) {
  auto largest = v.part[0];
  for (size_t i = 1; i < kParts; ++i) largest = hn::Max(largest, v.part[i]);
  return hn::GetLane(hn::MaxOfLanes(DU(), largest));
}
// The largest magnitude of n values, n a multiple of 16: on the bits, where NaN is above infinity is above every
// number.
template <class T>
HWY_INLINE float LargestMagnitude(const T* x, int64_t n) {
  Words largest = SetWords(0);
  for (int64_t i = 0; i < n; i += kLanes) largest = Max(largest, Bits(Load(x + i)) & SetWords(0x7fffffff));
  return std::bit_cast<float>(LargestLane(largest));
}

// 2^n for integers n in [-126, 127]: n plus the exponent's bias is made the lowest bits of a sum.
HWY_INLINE Floats PowerOfTwo(const Floats& n) { return FromBits(ShiftLeft<23>(Bits(n + Set(0x1.8p23f + 127)))); }

// exp(x) to within one ulp: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor's polynomial of degree 7 in r, times 2^n in two
// steps, of which only the second may round (to a subnormal). NaN stays NaN.
HWY_INLINE Floats Exp(const Floats& x) {
  const Floats clamped = AtMost(Set(89.5f), AtLeast(Set(-105), x));
  const Floats n = Round(clamped * Set(1.44269504f));
  Floats r = MulAdd(n, Set(-0.693359375f), clamped);
  r = MulAdd(n, Set(2.12194440e-4f), r);
  Floats p = Set(1.0f / 5040);
  p = MulAdd(p, r, Set(1.0f / 720));
  p = MulAdd(p, r, Set(1.0f / 120));
  p = MulAdd(p, r, Set(1.0f / 24));
  p = MulAdd(p, r, Set(1.0f / 6));
  p = MulAdd(p, r, Set(0.5f));
  p = MulAdd(p, r, Set(1));
  p = MulAdd(p, r, Set(1));
  const Floats half = Round(n * Set(0.5f));
  return p * PowerOfTwo(half) * PowerOfTwo(n - half);
}

// log(1 + y) for 0 <= y <= 1, to within a few ulps: 2 artanh(s) with s = y / (2 + y) <= 1/3, by its series.
HWY_INLINE Floats Log1p(const Floats& y) {
  const Floats s = y / (y + Set(2)), square = s * s;
  Floats p = Set(1.0f / 15);
  p = MulAdd(p, square, Set(1.0f / 13));
  p = MulAdd(p, square, Set(1.0f / 11));
  p = MulAdd(p, square, Set(1.0f / 9));
  p = MulAdd(p, square, Set(1.0f / 7));
  p = MulAdd(p, square, Set(1.0f / 5));
  p = MulAdd(p, square, Set(1.0f / 3));
  p = MulAdd(p, square, Set(1));
  return (s + s) * p;
}

#undef VX_PARTS

}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
