// 64 consecutive elements of a row of x or w as BF16, in two registers, for kernels with AVX-512 BF16 and VBMI.
// Included after HWY_PUSH_ATTRIBUTES with those features: everything here is inlined into the kernels.
#pragma once

#include "ops/linear/bf16_tables.h"

namespace vexil::cpu {
namespace {

inline constexpr int64_t kStep = 64;  // elements that are decoded at once

struct Bf16Pair {
  __m512i v[2];  // elements 0..31 and 32..63
};

// The rows of a QuantView without its types: where codes and scales of row r are.
struct CodeRows {
  const uint8_t* codes;
  int64_t stride;  // bytes
  const uint8_t* scales;
  int64_t scale_stride;  // bytes
  int block_shift;       // rows of a scale, as a power of two
  bool f32_scales;       // of I8
  const Bf16Tables* tables;

  const uint8_t* Row(int64_t r) const { return codes + r * stride; }
  const uint8_t* ScaleRow(int64_t r) const { return scales + (r >> block_shift) * scale_stride; }
};

inline CodeRows CodeRowsOf(const QuantView& q) {
  const bool scaled = !q.scale.empty();
  return {static_cast<const uint8_t*>(q.data.raw()),
          q.data.stride(0) * BytesOf(q.data.dtype()),
          scaled ? static_cast<const uint8_t*>(q.scale.raw()) : nullptr,
          scaled ? q.scale.stride(0) * BytesOf(q.scale.dtype()) : 0,
          std::countr_zero(uint64_t(q.block_rows)),
          scaled && q.scale.dtype() == DType::kF32,
          &GetBf16Tables()};
}

constexpr int64_t BytesOfElements(DType t, int64_t n) { return t == DType::kE2M1x2 ? n / 2 : n * BytesOf(t); }

// The first `n` bits.
inline __mmask64 FirstBits(int64_t n) { return n >= 64 ? ~__mmask64(0) : (__mmask64(1) << n) - 1; }

// Decode<format>(rows, r, k, valid): elements [k, k + valid) of row r, then zeros; k is a multiple of 64. No byte
// beyond the valid elements is read.
template <DType>
struct Decode;

template <>
struct Decode<DType::kBF16> {
  static inline Bf16Pair Get(const CodeRows& w, int64_t r, int64_t k, int64_t valid) {
    const uint8_t* p = w.Row(r) + 2 * k;
    if (valid >= kStep) return {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)};
    const __mmask64 mask = FirstBits(valid);
    return {_mm512_maskz_loadu_epi16(__mmask32(mask), p), _mm512_maskz_loadu_epi16(__mmask32(mask >> 32), p + 64)};
  }
};

template <>
struct Decode<DType::kE4M3> {
  static inline Bf16Pair Get(const CodeRows& w, int64_t r, int64_t k, int64_t valid) {
    const uint8_t* p = w.Row(r) + k;
    const __m512i codes = valid >= kStep ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(FirstBits(valid), p);
    return Lookup(codes, w.tables->e4m3[w.ScaleRow(r)[k / kE4M3Block]]);
  }
  static inline Bf16Pair Lookup(__m512i codes, const Bf16Tables::E4M3Bytes& t) {
    // The unpacking below works within 128-bit lanes: bring the quarters that it puts together into one lane.
    const __m512i c = QuartersInLanes(codes);
    const __m512i magnitude = _mm512_permutex2var_epi8(_mm512_load_si512(t.high), c, _mm512_load_si512(t.high + 64));
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(t.low), c, _mm512_load_si512(t.low + 64));
    const __m512i high = _mm512_ternarylogic_epi32(magnitude, c, _mm512_set1_epi8(char(0x80)), 0xf8);  // m | (c & sign)
    return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
  }
  static inline __m512i QuartersInLanes(__m512i codes) {
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), codes);
  }
};

template <>
struct Decode<DType::kE2M1x2> {
  static inline Bf16Pair Get(const CodeRows& w, int64_t r, int64_t k, int64_t valid) {
    const uint8_t *p = w.Row(r) + k / 2, *s = w.ScaleRow(r) + k / kE2M1Block;
    if (valid >= kStep) {
      return {Block(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), w.tables->e2m1[s[0]]),
              Block(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)), w.tables->e2m1[s[1]])};
    }
    const __mmask32 mask = __mmask32(FirstBits(valid / 2));
    const __m512i first = Block(_mm_maskz_loadu_epi8(__mmask16(mask), p), w.tables->e2m1[s[0]]);
    if (valid <= kE2M1Block) return {first, _mm512_setzero_si512()};
    return {first, Block(_mm_maskz_loadu_epi8(__mmask16(mask >> 16), p + 16), w.tables->e2m1[s[1]])};
  }
  // 16 bytes to 32 words. A byte is spread over two words, the second shifted to its high nibble; then each byte of a
  // word is looked up by the nibble, plus 16 for the upper byte. (VPERMB is half the work of VPERMW.)
  static inline __m512i Block(__m128i bytes, const uint8_t* table) {
    alignas(64) static constexpr uint8_t kSpread[64] = {0,  0,  0,  0,  1,  1,  1,  1,  2,  2,  2,  2,  3,  3,  3,  3,
                                                        4,  4,  4,  4,  5,  5,  5,  5,  6,  6,  6,  6,  7,  7,  7,  7,
                                                        8,  8,  8,  8,  9,  9,  9,  9,  10, 10, 10, 10, 11, 11, 11, 11,
                                                        12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15};
    const __m512i spread = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), _mm512_load_si512(kSpread));
    const __m512i nibbles = _mm512_srlv_epi16(spread, _mm512_set1_epi32(4 << 16));
    const __m512i index =  // (nibbles & 15) | 16 in upper bytes
        _mm512_ternarylogic_epi32(nibbles, _mm512_set1_epi8(15), _mm512_set1_epi16(16 << 8), 0xea);
    return _mm512_permutexvar_epi8(index, _mm512_load_si512(table));
  }
};

template <>
struct Decode<DType::kI8> {
  static inline Bf16Pair Get(const CodeRows& w, int64_t r, int64_t k, int64_t valid) {
    const uint8_t* p = w.Row(r) + k;
    const __m512i codes = valid >= kStep ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(FirstBits(valid), p);
    const __m512 scale = _mm512_set1_ps(Scale(w, w.ScaleRow(r)));
    const auto product = [&](__m128i c) { return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(c)), scale); };
    const __m512 a = product(_mm512_extracti32x4_epi32(codes, 0)), b = product(_mm512_extracti32x4_epi32(codes, 1)),
                 c = product(_mm512_extracti32x4_epi32(codes, 2)), d = product(_mm512_extracti32x4_epi32(codes, 3));
    return {__m512i(_mm512_cvtne2ps_pbh(b, a)), __m512i(_mm512_cvtne2ps_pbh(d, c))};
  }
  static inline float Scale(const CodeRows& w, const uint8_t* s) {
    return w.f32_scales ? *reinterpret_cast<const float*>(s) : reinterpret_cast<const BF16*>(s)->ToFloat();
  }
};

// Calls f with the format as a constant: f(std::integral_constant<DType, kE4M3>()).
template <class F>
void WithBf16Format(DType t, F&& f) {
  switch (t) {
    case DType::kBF16:
      return f(std::integral_constant<DType, DType::kBF16>());
    case DType::kE4M3:
      return f(std::integral_constant<DType, DType::kE4M3>());
    case DType::kE2M1x2:
      return f(std::integral_constant<DType, DType::kE2M1x2>());
    case DType::kI8:
      return f(std::integral_constant<DType, DType::kI8>());
    default:
      VX_CHECK(false, "RefuseBf16Values let another dtype through");
  }
}

// Rows and columns of 16 x 16 words of 32 bits change places.
inline void Transpose16(__m512i v[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]), b = _mm512_unpackhi_epi32(v[i], v[i + 1]),
                  c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]), d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
    t[i] = _mm512_unpacklo_epi64(a, c);
    t[i + 1] = _mm512_unpackhi_epi64(a, c);
    t[i + 2] = _mm512_unpacklo_epi64(b, d);
    t[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd),
                  c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88),
                  d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
    v[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

// Rounds the first `n` lanes to Y, stores them at y.
inline void StoreRounded(float* y, __m512i bits, int64_t n) {
  _mm512_mask_storeu_epi32(y, __mmask16(FirstBits(n)), bits);
}
inline void StoreRounded(BF16* y, __m512i bits, int64_t n) {
  // As BF16::From: the conversion instruction would take subnormals for zero.
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan =
      _mm512_cmpgt_epi32_mask(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)), _mm512_set1_epi32(0x7f800000));
  const __m512i r = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  _mm256_mask_storeu_epi16(y, __mmask16(FirstBits(n)), _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

}  // namespace
}  // namespace vexil::cpu
