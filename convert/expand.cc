#include "convert/expand.h"

#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "convert/expand.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace vexil::convert {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lanes of f32: a code becomes the f32 with its bits (or m * 2^-9 below the normal range), is multiplied and rounded to
// the upper half in integer arithmetic. No operand is an f32 subnormal, which some processors multiply slowly.
void E4M3Lanes(const uint8_t* codes, int64_t n, float scale, uint16_t* out) {
  const hn::ScalableTag<float> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  const hn::Rebind<uint16_t, decltype(df)> d16;
  const hn::RebindToSigned<decltype(df)> di;
  const auto factor = hn::Set(df, scale), step = hn::Set(df, 0x1p-9f);
  const auto exponent = hn::Set(du, 120u << 23), nan = hn::Set(du, 0x7fc00000u);
  for (int64_t i = 0; i < n; i += int64_t(hn::Lanes(df))) {
    const auto code = hn::PromoteTo(du, hn::LoadU(d8, codes + i));
    const auto magnitude = hn::And(code, hn::Set(du, 0x7fu));
    const auto sign = hn::ShiftLeft<24>(hn::Xor(code, magnitude));
    const auto normal = hn::BitCast(df, hn::Add(hn::ShiftLeft<20>(magnitude), exponent));
    const auto subnormal = hn::Mul(hn::ConvertTo(df, hn::BitCast(di, magnitude)), step);
    const auto is_subnormal = hn::Lt(hn::BitCast(di, magnitude), hn::Set(di, 8));
    const auto value = hn::IfThenElse(hn::RebindMask(df, is_subnormal), subnormal, normal);
    const auto bits = hn::BitCast(du, hn::Mul(value, factor));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
    auto rounded = hn::Add(hn::Add(bits, odd), hn::Set(du, 0x7fffu));
    rounded = hn::IfThenElse(hn::Eq(magnitude, hn::Set(du, 0x7fu)), nan, rounded);
    hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(hn::Or(rounded, sign))), d16, out + i);
  }
}

int64_t E4M3LaneCount() { return int64_t(hn::Lanes(hn::ScalableTag<float>())); }

// 16 bytes hold the 32 codes of one scale. `table`: the low bytes of the 16 BF16 values, then the high bytes.
#if HWY_TARGET == HWY_SCALAR
void E2M1Group(const uint8_t* pairs, const uint8_t* table, uint16_t* out) {
  for (int i = 0; i < 32; ++i) {
    const int code = i % 2 == 0 ? pairs[i / 2] & 15 : pairs[i / 2] >> 4;
    out[i] = uint16_t(table[code] | table[16 + code] << 8);
  }
}
#else
void E2M1Group(const uint8_t* pairs, const uint8_t* table, uint16_t* out) {
  const hn::FixedTag<uint8_t, 16> d;
  const auto packed = hn::LoadU(d, pairs);
  const auto even = hn::And(packed, hn::Set(d, 15));
  const auto odd = hn::And(hn::ShiftRight<4>(packed), hn::Set(d, 15));
  const auto low = hn::LoadU(d, table), high = hn::LoadU(d, table + 16);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(out);
  for (const auto& [codes, place] :
       {std::pair(hn::InterleaveLower(d, even, odd), 0), {hn::InterleaveUpper(d, even, odd), 32}}) {
    const auto l = hn::TableLookupBytes(low, codes), h = hn::TableLookupBytes(high, codes);
    hn::StoreU(hn::InterleaveLower(d, l, h), d, bytes + place);
    hn::StoreU(hn::InterleaveUpper(d, l, h), d, bytes + place + 16);
  }
}
#endif

void E2M1Groups(const uint8_t* pairs, int64_t groups, const uint8_t* scales, const uint8_t (*tables)[32],
                uint16_t* out) {
  for (int64_t g = 0; g < groups; ++g) E2M1Group(pairs + 16 * g, tables[scales[g]], out + 32 * g);
}

void Int8Lanes(const int8_t* codes, int64_t n, float scale, uint16_t* out) {
  const hn::ScalableTag<float> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::RebindToSigned<decltype(df)> di;
  const hn::Rebind<int8_t, decltype(df)> d8;
  const hn::Rebind<uint16_t, decltype(df)> d16;
  for (int64_t i = 0; i < n; i += int64_t(hn::Lanes(df))) {
    const auto value = hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(d8, codes + i)));
    const auto bits = hn::BitCast(du, hn::Mul(value, hn::Set(df, scale)));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
    const auto rounded = hn::Add(hn::Add(bits, odd), hn::Set(du, 0x7fffu));
    hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(rounded)), d16, out + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace vexil::convert
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::convert {
namespace {

HWY_EXPORT(E4M3Lanes);
HWY_EXPORT(E4M3LaneCount);
HWY_EXPORT(E2M1Groups);
HWY_EXPORT(Int8Lanes);

// Per E8M0 scale the BF16 of each E2M1 code, low bytes before high bytes.
struct E2M1Tables {
  alignas(16) uint8_t bytes[256][32];
  E2M1Tables() {
    for (int s = 0; s < 256; ++s) {
      const float scale = E8M0{uint8_t(s)}.ToFloat();
      for (int c = 0; c < 16; ++c) {
        const uint16_t bits = BF16::From(E2M1x2::kValues[c] * scale).bits;
        bytes[s][c] = uint8_t(bits);
        bytes[s][16 + c] = uint8_t(bits >> 8);
      }
    }
  }
};

}  // namespace

void ExpandE4M3(const E4M3* codes, int64_t n, E8M0 scale, BF16* out) {
  const float factor = scale.ToFloat();
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(E4M3LaneCount)(), whole = n / lanes * lanes;
  HWY_DYNAMIC_DISPATCH(E4M3Lanes)(&codes->bits, whole, factor, &out->bits);
  for (int64_t i = whole; i < n; ++i) out[i] = BF16::From(codes[i].ToFloat() * factor);
}

void ExpandE2M1(const E2M1x2* pairs, int64_t n, const E8M0* scales, BF16* out) {
  static const E2M1Tables kTables;
  constexpr int64_t kGroup = 32;
  const int64_t groups = n / kGroup;
  HWY_DYNAMIC_DISPATCH(E2M1Groups)(&pairs->bits, groups, &scales->bits, kTables.bytes, &out->bits);
  for (int64_t i = groups * kGroup; i < n; i += 2) {
    const float scale = scales[groups].ToFloat();
    out[i] = BF16::From(pairs[i / 2].Low() * scale);
    out[i + 1] = BF16::From(pairs[i / 2].High() * scale);
  }
}

void ExpandInt8(const int8_t* codes, int64_t n, float scale, BF16* out) {
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(E4M3LaneCount)(), whole = n / lanes * lanes;
  HWY_DYNAMIC_DISPATCH(Int8Lanes)(codes, whole, scale, &out->bits);
  for (int64_t i = whole; i < n; ++i) out[i] = BF16::From(float(codes[i]) * scale);
}

}  // namespace vexil::convert
#endif  // HWY_ONCE
