#include "convert/data_scan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/vector_widths.h"

namespace vexil::convert {
namespace {

// Exponent and mantissa of the formats that have NaN. A value is not finite when its exponent is all ones.
template <class Bits>
struct Layout {
  Bits exponent, mantissa;
};
constexpr Layout<uint32_t> kF32Layout{0x7f800000u, 0x007fffffu};
constexpr Layout<uint16_t> kBF16Layout{0x7f80u, 0x007fu};
constexpr Layout<uint16_t> kF16Layout{0x7c00u, 0x03ffu};

// Whether any value is not finite: without a branch, so that it runs over whole vectors.
VX_VECTOR_WIDTHS bool AnyBeyond(const uint32_t* p, int64_t n, uint32_t exponent) {
  uint32_t any = 0;
  for (int64_t i = 0; i < n; ++i) any |= (p[i] & exponent) == exponent;
  return any != 0;
}

VX_VECTOR_WIDTHS bool AnyBeyond(const uint16_t* p, int64_t n, uint16_t exponent) {
  uint16_t any = 0;
  for (int64_t i = 0; i < n; ++i) any = uint16_t(any | ((p[i] & exponent) == exponent));
  return any != 0;
}

// E4M3 has one NaN, and its negative.
VX_VECTOR_WIDTHS bool AnyNanE4M3(const uint8_t* p, int64_t n) {
  uint8_t any = 0;
  for (int64_t i = 0; i < n; ++i) any = uint8_t(any | ((p[i] & 0x7f) == 0x7f));
  return any != 0;
}

VX_VECTOR_WIDTHS void Range(const uint8_t* p, int64_t n, uint8_t& lowest, uint8_t& highest) {
  uint8_t low = 255, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    low = std::min(low, p[i]);
    high = std::max(high, p[i]);
  }
  lowest = std::min(lowest, low);
  highest = std::max(highest, high);
}

void Note(bool nan, int64_t index, ValueCounts& counts) {
  if (counts.first < 0) counts.first = index;
  ++(nan ? counts.nan : counts.infinite);
}

template <class Bits>
void CountFloats(const uint8_t* bytes, int64_t n, Layout<Bits> layout, int64_t index, ValueCounts& counts) {
  const Bits* p = reinterpret_cast<const Bits*>(bytes);
  if (!AnyBeyond(p, n, layout.exponent)) return;
  for (int64_t i = 0; i < n; ++i) {
    if ((p[i] & layout.exponent) == layout.exponent) Note((p[i] & layout.mantissa) != 0, index + i, counts);
  }
}

}  // namespace

void CountValues(DType dtype, std::span<const uint8_t> bytes, int64_t index, ValueCounts& counts) {
  const int64_t n = int64_t(bytes.size()) / BytesOf(dtype);
  const uint8_t* p = bytes.data();
  switch (dtype) {
    case DType::kF32:
      return CountFloats(p, n, kF32Layout, index, counts);
    case DType::kBF16:
      return CountFloats(p, n, kBF16Layout, index, counts);
    case DType::kF16:
      return CountFloats(p, n, kF16Layout, index, counts);
    case DType::kE4M3:
      if (!AnyNanE4M3(p, n)) return;
      for (int64_t i = 0; i < n; ++i) {
        if ((p[i] & 0x7f) == 0x7f) Note(true, index + i, counts);
      }
      return;
    case DType::kE8M0:
      Range(p, n, counts.lowest, counts.highest);
      if (counts.highest < 255) return;
      for (int64_t i = 0; i < n; ++i) {
        if (p[i] == 255) Note(true, index + i, counts);
      }
      return;
    default:
      return;
  }
}

}  // namespace vexil::convert
