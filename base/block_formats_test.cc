#include "base/block_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace vexil {
namespace {

// ggml's reading of a block: half of the scale, from its bits, times twice the value of the code.
float GgmlMxfp4(const MXFP4& block, int i) {
  constexpr int kTwice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  const uint32_t e = block.scale.bits;
  const float half = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  const int code = i < 16 ? block.pairs[i] & 15 : block.pairs[i - 16] >> 4;
  return half * float(kTwice[code]);
}

TEST(BlockFormats, AnMxfp4BlockStandsForTheValuesThatGgmlReads) {
  for (int scale = 0; scale < 255; ++scale) {
    MXFP4 block{E8M0{uint8_t(scale)}, {}};
    for (int i = 0; i < 16; ++i) block.pairs[i] = uint8_t(i | (15 - i) << 4);
    for (int i = 0; i < kBlockElements; ++i) {
      EXPECT_EQ(block.At(i), GgmlMxfp4(block, i)) << "scale " << scale << ", element " << i;
      const double exact = std::ldexp(double(E2M1x2::kValues[block.Code(i)]), scale - 127);
      EXPECT_TRUE(std::abs(exact) >= 0x1p128 || double(block.At(i)) == exact) << block.At(i);
    }
  }
}

TEST(BlockFormats, Mxfp4CodesComeBackInOrder) {
  uint8_t codes[kBlockElements];
  for (int i = 0; i < kBlockElements; ++i) codes[i] = uint8_t(i * 7 % 16);
  const MXFP4 block = MXFP4::FromCodes(E8M0::FromExponent(3), codes);
  for (int i = 0; i < kBlockElements; ++i) EXPECT_EQ(block.Code(i), codes[i]);
  EXPECT_EQ(block.pairs[0], codes[0] | codes[16] << 4);
}

TEST(BlockFormats, Mxfp4ScaleIsTheSmallestThatHoldsTheLargestValue) {
  for (int e = -120; e <= 120; ++e) {
    for (const float above : {0.0f, 1.0f}) {
      float x[kBlockElements] = {};
      x[5] = std::ldexp(6.0f, e);
      if (above != 0) x[5] = std::nextafter(x[5], INFINITY);
      const MXFP4 block = MXFP4::From(x);
      EXPECT_EQ(block.scale.bits, e + 127 + int(above)) << x[5];
      EXPECT_EQ(block.Code(5), above != 0 ? 5 : 7);
    }
  }
  const float zeros[kBlockElements] = {};
  EXPECT_EQ(MXFP4::From(zeros).At(0), 0);
}

TEST(BlockFormats, RoundingAnMxfp4BlockThatIsFullAgainChangesNothing) {
  std::mt19937 random(1);
  for (int n = 0; n < 1000; ++n) {
    MXFP4 block{E8M0{uint8_t(20 + random() % 200)}, {}};
    for (uint8_t& p : block.pairs) p = uint8_t(random());
    block.pairs[random() % 16] = 0x7f;  // 6 and -6: the scale is needed
    float x[kBlockElements];
    for (int i = 0; i < kBlockElements; ++i) x[i] = block.At(i);
    EXPECT_EQ(MXFP4::From(x), block);
  }
}

TEST(BlockFormats, Q8_0IsWithinHalfAStep) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.05f);
  for (int n = 0; n < 200; ++n) {
    float x[kBlockElements], amax = 0;
    for (float& v : x) amax = std::max(amax, std::abs(v = normal(random)));
    const Q8_0 block = Q8_0::From(x);
    // Half a step, and 127 steps of a scale that F16 rounds by at most 2^-11.
    for (int i = 0; i < kBlockElements; ++i) EXPECT_NEAR(block.At(i), x[i], amax / 127 * (0.5001f + 127 * 0x1p-11f));
  }
  const float zeros[kBlockElements] = {};
  EXPECT_EQ(Q8_0::From(zeros), Q8_0{});
}

}  // namespace
}  // namespace vexil
