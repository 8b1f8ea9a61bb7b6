#include "convert/data_scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

namespace vexil::convert {
namespace {

template <class T>
ValueCounts Count(const std::vector<T>& values, int64_t index = 0) {
  ValueCounts counts;
  CountValues(DTypeOf<T>(), {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)}, index,
              counts);
  return counts;
}

// Every code of a format, against its conversion to float.
template <class T, class Bits>
void ExpectAllCodes() {
  std::vector<T> values;
  int64_t nan = 0, infinite = 0, first = -1;
  for (uint32_t b = 0; b <= std::numeric_limits<Bits>::max(); ++b) {
    values.push_back(T{Bits(b)});
    const float f = values.back().ToFloat();
    nan += std::isnan(f);
    infinite += std::isinf(f);
    if (first < 0 && !std::isfinite(f)) first = b;
  }
  const ValueCounts counts = Count(values);
  EXPECT_EQ(counts.nan, nan);
  EXPECT_EQ(counts.infinite, infinite);
  EXPECT_EQ(counts.first, first);
}

TEST(DataScanTest, EveryCode) {
  ExpectAllCodes<BF16, uint16_t>();
  ExpectAllCodes<F16, uint16_t>();
  ExpectAllCodes<E4M3, uint8_t>();
  ExpectAllCodes<E8M0, uint8_t>();
}

// Wherever the value stands in a vector or behind the last whole one.
TEST(DataScanTest, EveryPlace) {
  for (size_t n : {1, 63, 64, 200}) {
    for (size_t bad = 0; bad < n; ++bad) {
      std::vector<float> f32(n, 1.0f);
      f32[bad] = -INFINITY;
      EXPECT_EQ(Count(f32, 1000).first, int64_t(1000 + bad));
      std::vector<E4M3> e4m3(n, E4M3{0x7e});
      EXPECT_TRUE(Count(e4m3).Healthy());
      e4m3[bad].bits = 0xff;
      EXPECT_EQ(Count(e4m3).first, int64_t(bad));
      std::vector<E8M0> e8m0(n, E8M0{127});
      e8m0[bad].bits = 3;
      EXPECT_EQ(Count(e8m0).lowest, 3);
      EXPECT_EQ(Count(e8m0).highest, 127 - 124 * (n == 1));
    }
  }
}

TEST(DataScanTest, PiecesAddUp) {
  ValueCounts counts;
  const std::vector<float> good(10, 0.0f), bad = {NAN, 1, INFINITY};
  const auto bytes = [](const std::vector<float>& v) {
    return std::span(reinterpret_cast<const uint8_t*>(v.data()), v.size() * 4);
  };
  CountValues(DType::kF32, bytes(good), 0, counts);
  CountValues(DType::kF32, bytes(bad), 10, counts);
  CountValues(DType::kF32, bytes(bad), 13, counts);
  EXPECT_EQ(counts.nan, 2);
  EXPECT_EQ(counts.infinite, 2);
  EXPECT_EQ(counts.first, 10);
}

}  // namespace
}  // namespace vexil::convert
