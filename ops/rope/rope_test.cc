// Frequencies and rotations against independently computed tables (spec: model, section 7.1).
#include "ops/rope/rope.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "ops/rope/frequencies.h"
#include "testing/conformance.h"
#include "testing/golden.h"

namespace vexil {
namespace {

constexpr RopeConfig kPlain{.base = 10000, .dims = 64};
constexpr RopeConfig kYarn{.base = 160000, .dims = 64, .factor = 16, .original_length = 65536};

TEST(RopeFrequencies, MatchTheTablesBitForBit) {
  const Json golden = ReadFormatsData("rope.json");
  EXPECT_EQ(RopeFrequencies(kPlain), GoldenFloats(GoldenList(golden, "plain_theta10000")));
  EXPECT_EQ(RopeFrequencies(kYarn), GoldenFloats(GoldenList(golden, "yarn_theta160000")));
}

TEST(RopeFrequencies, YarnKeepsFastPairsAndDividesSlowOnes) {
  const RopeConfig unscaled{.base = 160000, .dims = 64};
  const std::vector<float> yarn = RopeFrequencies(kYarn), plain = RopeFrequencies(unscaled);
  for (size_t i = 0; i <= 15; ++i) EXPECT_EQ(yarn[i], plain[i]) << i;
  for (size_t i = 16; i <= 24; ++i) {
    EXPECT_LT(yarn[i], plain[i]) << i;
    EXPECT_GT(yarn[i], plain[i] / 16) << i;
  }
  for (size_t i = 25; i < 32; ++i) EXPECT_EQ(yarn[i], plain[i] / 16) << i;
}

TEST(RopeFrequencies, NoOriginalLengthMeansNoYarn) {
  RopeConfig config = kYarn;
  config.original_length = 0;
  EXPECT_EQ(RopeFrequencies(config), RopeFrequencies({.base = 160000, .dims = 64}));
}

TEST(RopeFrequencies, AFactorOfOneRoundsLikeAnyOther) {
  RopeConfig config = kYarn;
  config.factor = 1;
  config.original_length = 4096;
  const std::vector<float> yarn = RopeFrequencies(config), plain = RopeFrequencies({.base = 160000, .dims = 64});
  size_t rounded = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_FLOAT_EQ(yarn[i], plain[i]) << i;
    rounded += yarn[i] != plain[i];
  }
  EXPECT_GT(rounded, 0u);  // the mixture f * (1 - s) + f * s of the ramp is not always f
}

TEST(RopeFrequencies, RampOfNoLengthIsAStep) {
  // Both betas fall just before pair 0, where the ramp is then cut off to nothing.
  const std::vector<float> freqs = RopeFrequencies(
      {.base = 10000, .dims = 8, .factor = 4, .original_length = 179, .beta_fast = 100, .beta_slow = 90});
  const std::vector<float> plain = RopeFrequencies({.base = 10000, .dims = 8});
  EXPECT_EQ(freqs[0], plain[0]);
  for (size_t i = 1; i < freqs.size(); ++i) EXPECT_EQ(freqs[i], plain[i] / 4) << i;
}

// Rotating (1, 0) gives (cos, sin) itself.
void ExpectRotations(const RopeConfig& config, const Json& positions) {
  ASSERT_NE(positions.object(), nullptr);
  EXPECT_FALSE(positions.object()->empty());
  for (const auto& [position, pairs] : *positions.object()) {
    TestArena arena(1);
    std::vector<float> x;
    for (int64_t i = 0; i < config.dims / 2; ++i) x.insert(x.end(), {1, 0});
    const MutTensorView view = arena.Values<float>({1, 1, config.dims}, x);
    ASSERT_TRUE(vexil::Run<Rope>({}, {.x = view,
                                      .positions = arena.Values<int32_t>({1}, {std::stoi(position)}),
                                      .freqs = arena.Values<float>({config.dims / 2}, RopeFrequencies(config))})
                    .ok());
    for (size_t i = 0; i < size_t(config.dims / 2); ++i) {
      const std::vector<float> want = GoldenFloats(*(*pairs.array())[i].array());
      EXPECT_EQ(view.Data<float>()[2 * i], want[0]) << "cos of pair " << i << " at " << position;
      EXPECT_EQ(view.Data<float>()[2 * i + 1], want[1]) << "sin of pair " << i << " at " << position;
    }
  }
}

TEST(Rope, RotationsMatchTheTablesUpToAMillionPositions) {
  const Json golden = ReadFormatsData("rope.json");
  const Json* tables = golden.Find("cos_sin");
  ASSERT_NE(tables, nullptr);
  ExpectRotations(kPlain, *tables->Find("plain"));
  ExpectRotations(kYarn, *tables->Find("yarn"));
}

TEST(Rope, CheckNamesWhatIsWrong) {
  TestArena arena(1);
  const Rope::Args good{.x = arena.Normal(DType::kF32, {2, 3, 8}),
                        .positions = arena.Integers(DType::kI32, {2}, 0, 9),
                        .freqs = arena.Uniform(DType::kF32, {4}, 0, 1)};
  EXPECT_TRUE(Rope::Check(good).ok());
  Rope::Args bad = good;
  bad.freqs = arena.Uniform(DType::kF32, {5}, 0, 1);
  EXPECT_EQ(Rope::Check(bad).message(), "rope: a head has fewer than 2 * pairs channels");
  bad = good;
  bad.positions = arena.Integers(DType::kI32, {3}, 0, 9);
  EXPECT_EQ(Rope::Check(bad).message(), "rope: positions must be I32 [n]");
}

}  // namespace
}  // namespace vexil
