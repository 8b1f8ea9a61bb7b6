// Expanding, repacking and encoding of values against float64.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "convert/expand.h"
#include "convert/quantizers.h"
#include "convert/repack.h"

namespace vexil::convert {
namespace {

// The formats as the specification words them, in float64 and apart from base/float_formats.h.
double E4M3Value(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return NAN;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa / 8.0, -6) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
  return code & 128 ? -magnitude : magnitude;
}
double E2M1Value(int code) {
  constexpr double kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -kMagnitudes[code & 7] : kMagnitudes[code & 7];
}
double E8M0Value(int code) { return code == 255 ? NAN : std::ldexp(1.0, code - 127); }

// Nearest BF16, ties to even; 8 bits of precision, least exponent -126, least step 2^-133.
double RoundToBF16(double v) {
  if (v == 0 || std::isnan(v)) return v;
  const double step = std::ldexp(1.0, std::max(std::ilogb(v), -126) - 7);
  const double rounded = std::nearbyint(v / step) * step;
  return std::fabs(rounded) >= std::ldexp(1.0, 128) ? std::copysign(INFINITY, v) : rounded;
}

void ExpectSame(BF16 got, double want, const std::string& what) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got.ToFloat())) << what;
    return;
  }
  EXPECT_EQ(double(got.ToFloat()), want) << what;
  EXPECT_EQ(std::signbit(got.ToFloat()), std::signbit(want)) << what;
}

TEST(Expand, EveryE4M3CodeUnderEveryScale) {
  std::vector<E4M3> codes;
  for (int c = 0; c < 256; ++c) codes.push_back({uint8_t(c)});
  std::vector<BF16> out(256);
  for (int s = 0; s < 256; ++s) {
    for (int64_t n : {256, 253}) {  // whole vectors, and a tail
      ExpandE4M3(codes.data() + 256 - n, n, {uint8_t(s)}, out.data());
      for (int64_t i = 0; i < n; ++i) {
        const int c = int(256 - n + i);
        ExpectSame(out[size_t(i)], RoundToBF16(E4M3Value(c) * E8M0Value(s)),
                   "code " + std::to_string(c) + " scale " + std::to_string(s));
      }
    }
  }
}

TEST(Expand, EveryE2M1CodeUnderEveryScale) {
  for (int s = 0; s < 256; ++s) {
    std::vector<E2M1x2> pairs;
    for (int i = 0; i < 128; ++i) pairs.push_back({uint8_t(i % 16 | (i / 16 * 2 + i) % 16 << 4)});
    const std::vector<E8M0> scales(8, {uint8_t(s)});
    std::vector<BF16> out(256);
    for (int64_t n : {256, 250}) {  // whole groups, and a short one
      ExpandE2M1(pairs.data(), n, scales.data(), out.data());
      for (int64_t i = 0; i < n; ++i) {
        const int byte = pairs[size_t(i / 2)].bits, c = i % 2 ? byte >> 4 : byte & 15;
        ExpectSame(out[size_t(i)], RoundToBF16(E2M1Value(c) * E8M0Value(s)),
                   "code " + std::to_string(c) + " scale " + std::to_string(s));
      }
    }
  }
}

TEST(Expand, EachGroupHasItsOwnScale) {
  const std::vector<E2M1x2> pairs(32, {0x12});  // 1 then 0.5
  const std::vector<E8M0> scales = {{127}, {130}};
  std::vector<BF16> out(64);
  ExpandE2M1(pairs.data(), 64, scales.data(), out.data());
  EXPECT_EQ(out[31].ToFloat(), 0.5f);
  EXPECT_EQ(out[32].ToFloat(), 8.0f);
}

TEST(Expand, EveryInt8Code) {
  std::vector<int8_t> codes;
  for (int c = -128; c < 128; ++c) codes.push_back(int8_t(c));
  std::vector<BF16> out(256);
  for (float scale : {1.0f, 0.0123f, 3.1e-5f, 1e-12f}) {
    ExpandInt8(codes.data(), 255, scale, out.data());
    for (int i = 0; i < 255; ++i)
      ExpectSame(out[size_t(i)], RoundToBF16(float(codes[size_t(i)]) * scale), std::to_string(codes[size_t(i)]));
  }
}

TEST(Repack, KeepsEveryValueDownTo2ToTheMinus14) {
  std::vector<E2M1x2> pairs;
  for (int i = 0; i < 16; ++i) pairs.push_back({uint8_t(i | (15 - i) << 4)});
  const int largest = 130;
  const E8M0 tile{uint8_t(RepackedScale(largest))};
  for (int below = 0; below <= 30; ++below) {
    const E8M0 scale{uint8_t(largest - below)};
    std::vector<E4M3> out(32);
    const int64_t rounded = RepackRow(pairs.data(), 32, &scale, &tile, out.data());
    int64_t inexact = 0;
    for (int i = 0; i < 32; ++i) {
      const int byte = pairs[size_t(i / 2)].bits, c = i % 2 ? byte >> 4 : byte & 15;
      const double want = E2M1Value(c) * E8M0Value(scale.bits),
                   got = E4M3Value(out[size_t(i)].bits) * E8M0Value(tile.bits);
      inexact += got != want;
      EXPECT_LE(std::fabs(got - want), 0.5 * std::ldexp(1.0, -9) * E8M0Value(tile.bits))
          << "scale 2^-" << below << " code " << c;
    }
    EXPECT_EQ(rounded, inexact) << below;
    EXPECT_EQ(rounded == 0, below <= 14) << below;
  }
}

TEST(Repack, RefusesScalesThatHaveNoPlace) {
  EXPECT_EQ(RepackedScale(6), 0);
  EXPECT_EQ(RepackedScale(5), -1);
  EXPECT_EQ(RepackedScale(255), -1);
}

// The least power of two with amax <= max * 2^e, by search.
int LeastExponent(double amax, double max) {
  int e = -126;
  while (amax > std::ldexp(max, e)) ++e;
  return e;
}

TEST(Quantizers, ScaleIsTheLeastPowerOfTwoInRange) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> exponent(-100, 100);
  for (int i = 0; i < 20000; ++i) {
    const float amax = BF16::From(float(std::exp2(exponent(random)))).ToFloat();  // what checkpoints hold
    ASSERT_EQ(ScaleForE4M3(amax).bits, LeastExponent(amax, 448) + 127) << amax;
    ASSERT_EQ(ScaleForE2M1(amax).bits, LeastExponent(amax, 6) + 127) << amax;
  }
  for (int e = -100; e <= 100; ++e) {  // on the edges
    EXPECT_EQ(ScaleForE4M3(std::ldexp(448.0f, e)).bits, e + 127);
    EXPECT_EQ(ScaleForE2M1(std::ldexp(6.0f, e)).bits, e + 127);
  }
  EXPECT_EQ(ScaleForE4M3(0).bits, 1);
  EXPECT_EQ(ScaleForE2M1(INFINITY).bits, 255);
  EXPECT_EQ(ScaleForE4M3(NAN).bits, 255);
}

TEST(Quantizers, CodesAreTheNearestOfAll) {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> x(32);
    for (float& v : x) v = normal(random);
    const float amax = AbsMax(x.data(), 32);
    const E8M0 s8 = ScaleForE4M3(amax), s4 = ScaleForE2M1(amax);
    const float si = ScaleForInt8(amax);
    std::vector<E4M3> c8(32);
    std::vector<E2M1x2> c4(16);
    std::vector<int8_t> ci(32);
    EncodeE4M3(x.data(), 32, s8, c8.data());
    EncodeE2M1(x.data(), 32, s4, c4.data());
    EncodeInt8(x.data(), 32, si, ci.data());
    for (size_t i = 0; i < 32; ++i) {
      double best8 = INFINITY, best4 = INFINITY;
      for (int c = 0; c < 256; ++c) {
        if (!std::isnan(E4M3Value(c))) best8 = std::min(best8, std::fabs(E4M3Value(c) * E8M0Value(s8.bits) - x[i]));
      }
      for (int c = 0; c < 16; ++c) best4 = std::min(best4, std::fabs(E2M1Value(c) * E8M0Value(s4.bits) - x[i]));
      const int code4 = i % 2 ? c4[i / 2].bits >> 4 : c4[i / 2].bits & 15;
      EXPECT_EQ(std::fabs(E4M3Value(c8[i].bits) * E8M0Value(s8.bits) - x[i]), best8);
      EXPECT_EQ(std::fabs(E2M1Value(code4) * E8M0Value(s4.bits) - x[i]), best4);
      // The f32 quotient may be off by one rounding before it is rounded to an integer.
      EXPECT_LE(std::fabs(double(ci[i]) * si - x[i]), (0.5 + 127 * 0x1p-24) * si);
    }
  }
}

TEST(Quantizers, AbsMaxKeepsNaN) {
  const float x[] = {1, -3, NAN, 2};
  EXPECT_EQ(AbsMax(x, 2), 3);
  EXPECT_TRUE(std::isnan(AbsMax(x, 4)));
  EXPECT_FLOAT_EQ(ScaleForInt8(0), 1e-10f / 127);
}

}  // namespace
}  // namespace vexil::convert
