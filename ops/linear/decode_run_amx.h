// Whole steps of a row of w into the tiles of a block of rows, for the AMX kernels. Values are those of Decode<> to the
// bit. Included after bf16_values_avx512.h, in a region with its features and GFNI.
#pragma once

#include "ops/linear/bf16_values_avx512.h"

namespace vexil::cpu {
namespace {

inline constexpr int64_t kTileRows = 16;  // of w, and most rows of x
inline constexpr int64_t kTileBytes = 1024;
inline constexpr int64_t kStepBytes = 4 * kTileBytes;  // a step of 32 rows: [half of the elements][half of the rows]
inline constexpr int64_t kHalfStepBytes = 2 * kTileBytes;

// Scales of a row before element k, in bytes; k is a multiple of a step.
constexpr int64_t ScaleOffset(DType t, int64_t k) {
  return t == DType::kE4M3 ? k / kE4M3Block : t == DType::kE2M1x2 ? k / kE2M1Block : 0;
}

inline void StoreStep(uint8_t* out, int64_t step, const Bf16Pair& p) {
  _mm512_store_si512(out + step * kStepBytes, p.v[0]);
  _mm512_store_si512(out + step * kStepBytes + kHalfStepBytes, p.v[1]);
}

// Decodes kCount steps of a row whose first codes and scales are at `codes` and `scales`; `out` is the row's place in
// the first step's tiles. More than one step starts at a multiple of 128 elements.
template <DType kFormat, int64_t kCount>
struct DecodeRun;

template <int64_t kCount>
struct DecodeRun<DType::kBF16, kCount> {
  static inline void Do(const CodeRows&, const uint8_t* codes, const uint8_t*, uint8_t* out) {
    for (int64_t i = 0; i < kCount; ++i, codes += 128) {
      StoreStep(out, i, {_mm512_loadu_si512(codes), _mm512_loadu_si512(codes + 64)});
    }
  }
};

template <int64_t kCount>
struct DecodeRun<DType::kE2M1x2, kCount> {
  using Format = Decode<DType::kE2M1x2>;
  static inline void Do(const CodeRows& rows, const uint8_t* codes, const uint8_t* scales, uint8_t* out) {
    const auto block = [&](int64_t b) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + b * 16));
      return Format::Block(bytes, rows.tables->e2m1[scales[b]]);
    };
#pragma GCC unroll 4
    for (int64_t i = 0; i < kCount; ++i) StoreStep(out, i, {block(2 * i), block(2 * i + 1)});
  }
};

// Codes with an exponent need no table: their bits are moved to where BF16 has them, and the difference of exponents is
// added. Subnormal codes, zeros, NaN and scales at the ends of their range are rare; a run that has one is looked up.
template <int64_t kCount>
struct DecodeRun<DType::kE4M3, kCount> {
  using Format = Decode<DType::kE4M3>;
  static inline void Do(const CodeRows& rows, const uint8_t* codes, const uint8_t* scales, uint8_t* out) {
    if (Compute(rows, codes, scales, out)) [[likely]]
      return;
    for (int64_t i = 0; i < kCount; ++i) {
      StoreStep(out, i, Format::Lookup(_mm512_loadu_si512(codes + i * kStep), rows.tables->e4m3[scales[i / 2]]));
    }
  }

 private:
  // False if the results are not all right.
  static inline bool Compute(const CodeRows& rows, const uint8_t* codes, const uint8_t* scales, uint8_t* out) {
    constexpr int64_t kScales = (kCount + 1) / 2;
    const uint32_t* exponent[kScales];
    uint32_t unusable = 0;
    for (int64_t i = 0; i < kScales; ++i) {
      exponent[i] = &rows.tables->e4m3_exponent[scales[i]];
      unusable |= *exponent[i] & Bf16Tables::kNoExponent;
    }
    if (unusable) return false;
    // Bits of a code, seee emmm, become a low byte emmm 0000 and a high byte s000 0eee. Byte 7 - i of a matrix selects
    // bit i of the result.
    const __m512i to_low = _mm512_set1_epi64(0x01020408), to_high = _mm512_set1_epi64(0x1020400000000080);
    __m512i rare = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int64_t i = 0; i < kCount; ++i) {
      const __m512i c = Format::QuartersInLanes(_mm512_loadu_si512(codes + i * kStep));
      const __m512i low = _mm512_gf2p8affine_epi64_epi8(c, to_low, 0),
                    high = _mm512_gf2p8affine_epi64_epi8(c, to_high, 0);
      const __m512i e = _mm512_set1_epi32(int(*exponent[i / 2]));
      StoreStep(
          out, i,
          {_mm512_add_epi16(_mm512_unpacklo_epi8(low, high), e), _mm512_add_epi16(_mm512_unpackhi_epi8(low, high), e)});
      // A code of 8 to 126 without its sign keeps the sign when 1 is added or 8 taken away. Others change it in one of
      // the two: the top bit of (c + 1) ^ (c - 8).
      rare = _mm512_ternarylogic_epi32(rare, _mm512_add_epi8(c, _mm512_set1_epi8(1)),
                                       _mm512_add_epi8(c, _mm512_set1_epi8(-8)), 0xf6);  // rare | (a ^ b)
    }
    return _mm512_movepi8_mask(rare) == 0;
  }
};

template <int64_t kCount>
struct DecodeRun<DType::kI8, kCount> {
  static inline void Do(const CodeRows& rows, const uint8_t* codes, const uint8_t* scales, uint8_t* out) {
    const __m512 scale = _mm512_set1_ps(Decode<DType::kI8>::Scale(rows, scales));
    const auto products = [&](int64_t i) {
      const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i * 16));
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(c)), scale);
    };
    const auto half = [&](int64_t h) { return __m512i(_mm512_cvtne2ps_pbh(products(2 * h + 1), products(2 * h))); };
#pragma GCC unroll 4
    for (int64_t i = 0; i < kCount; ++i) StoreStep(out, i, {half(2 * i), half(2 * i + 1)});
  }
};

}  // namespace
}  // namespace vexil::cpu
