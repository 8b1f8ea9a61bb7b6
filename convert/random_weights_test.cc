#include "convert/random_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "io/manifest.h"

namespace vexil::convert {
namespace {

constexpr uint64_t kSeed = 7;
constexpr int64_t kExperts = 16;

std::vector<uint8_t> Weight(const RandomTensor& t) {
  const StoredTensor stored = PublishedForm(t.spec())[0];
  std::vector<uint8_t> bytes(size_t(stored.dims.Count() * BytesOf(stored.dtype)));
  t.FillWeight(0, bytes);
  return bytes;
}

std::vector<uint8_t> Scale(const RandomTensor& t) {
  std::vector<uint8_t> bytes(size_t(PublishedForm(t.spec())[1].dims.Count()));
  t.FillScale(0, bytes);
  return bytes;
}

const TensorSpec kSpecs[] = {
    {"a.weight", TensorRole::kLinear, {300, 520}}, {"b.weight", TensorRole::kExpert, {70, 352}},
    {"c.weight", TensorRole::kMatrix, {90, 130}},  {"embed.weight", TensorRole::kEmbedding, {64, 100}},
    {"n.weight", TensorRole::kNorm, {4096}},       {"f", TensorRole::kHyperFn, {24, 400}},
    {"t.tid2eid", TensorRole::kTable, {1000, 3}}};

// The bytes do not depend on where pieces begin.
TEST(RandomWeightsTest, AnyPieces) {
  for (const TensorSpec& spec : kSpecs) {
    const RandomTensor t(spec, kSeed, kExperts);
    const std::vector<uint8_t> whole = Weight(t);
    const int64_t unit = spec.role == TensorRole::kTable ? 24 : BytesOf(PublishedForm(spec)[0].dtype);
    std::vector<uint8_t> pieces(whole.size());
    for (int64_t begin = 0, units = 1; begin < int64_t(whole.size()); units = units * 5 + 2) {
      const int64_t size = std::min(units * unit, int64_t(whole.size()) - begin);
      t.FillWeight(begin, std::span(pieces).subspan(size_t(begin), size_t(size)));
      begin += size;
    }
    EXPECT_EQ(pieces, whole) << spec.name;
  }
}

TEST(RandomWeightsTest, SeedNameAndPlaceDecide) {
  const auto hash = [](const RandomTensor& t) { return TensorHash::Of(Weight(t)); };
  std::set<uint64_t> hashes;
  for (uint64_t seed : {1, 2}) {
    for (const char* name : {"x.weight", "y.weight"}) {
      for (TensorRole role : {TensorRole::kMatrix, TensorRole::kLinear, TensorRole::kExpert}) {
        hashes.insert(hash(RandomTensor({name, role, {64, 64}}, seed, kExperts)));
      }
    }
  }
  EXPECT_EQ(hashes.size(), 12u);
  // The same on every machine and in every build.
  EXPECT_EQ(HashText(hash(RandomTensor(kSpecs[0], kSeed, kExperts))), "28571c7b9a79e42c");
  EXPECT_EQ(HashText(hash(RandomTensor(kSpecs[2], kSeed, kExperts))), "25b47900617f6660");
  EXPECT_EQ(HashText(hash(RandomTensor(kSpecs[6], kSeed, kExperts))), "98f7628e4add7b3f");
}

// The gain is that of a deviation of 1/sqrt(inputs), up to the sqrt(2) by which a power of two can miss it, and to five
// standard errors: the squares of the scales have a relative deviation of 0.92, halved by the root.
TEST(RandomWeightsTest, DequantizedRowsAreCodesTimesScalesOfUnitGain) {
  for (const TensorSpec& spec : {kSpecs[0], kSpecs[1]}) {
    const RandomTensor t(spec, kSeed, kExperts);
    const std::vector<uint8_t> codes = Weight(t), scales = Scale(t);
    const bool packed = spec.role == TensorRole::kExpert;
    const int64_t n = spec.dims[0], k = spec.dims[1];
    std::vector<uint16_t> rows(size_t(n * k));
    t.FillDequantizedRows(0, rows);
    double squares = 0;
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t c = 0; c < k; ++c) {
        const uint8_t byte = codes[size_t(packed ? (r * k + c) / 2 : r * k + c)];
        const float code = packed ? E2M1x2::kValues[c % 2 ? byte >> 4 : byte & 15] : E4M3{byte}.ToFloat();
        const int64_t at = packed ? r * ((k + 31) / 32) + c / 32 : r / 128 * ((k + 127) / 128) + c / 128;
        const float value = code * E8M0{scales[size_t(at)]}.ToFloat();
        ASSERT_EQ(BF16{rows[size_t(r * k + c)]}.ToFloat(), value) << spec.name << " " << r << " " << c;
        squares += double(value) * value;
      }
    }
    const double gain = std::sqrt(squares / double(n * k) * double(k));
    const double most = std::sqrt(2.0) * (1 + 5 * 0.46 / std::sqrt(double(scales.size())));
    EXPECT_GT(gain, 1 / most) << spec.name;
    EXPECT_LT(gain, most) << spec.name;
    std::vector<uint16_t> one(static_cast<size_t>(k));
    t.FillDequantizedRows(n - 1, one);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), rows.end() - k));
  }
}

TEST(RandomWeightsTest, MeanAndDeviation) {
  const auto moments = [](const std::vector<float>& v) {
    double sum = 0, squares = 0;
    for (float f : v) sum += f, squares += double(f) * f;
    const double mean = sum / double(v.size());
    return std::pair(mean, std::sqrt(squares / double(v.size()) - mean * mean));
  };
  const auto bf16 = [&](const TensorSpec& spec) {
    const std::vector<uint8_t> bytes = Weight(RandomTensor(spec, kSeed, kExperts));
    std::vector<float> v;
    for (size_t i = 0; i < bytes.size(); i += 2) v.push_back(BF16{uint16_t(bytes[i] | bytes[i + 1] << 8)}.ToFloat());
    return moments(v);
  };
  // n samples: the mean is off by deviation / sqrt(n), the deviation by less than that; five of them.
  const auto [norm_mean, norm_deviation] = bf16({"n.weight", TensorRole::kNorm, {10000}});
  EXPECT_NEAR(norm_mean, 1.0, 5 * 0.1 / 100);
  EXPECT_NEAR(norm_deviation, 0.1, 5 * 0.1 / 100);
  const auto [mean, deviation] = bf16({"m.weight", TensorRole::kMatrix, {100, 400}});
  EXPECT_NEAR(mean, 0, 5 * 0.05 / 200);
  EXPECT_NEAR(deviation, 0.05, 5 * 0.05 / 200);
}

TEST(RandomWeightsTest, TablesHoldDistinctExpertsAllOfThem) {
  const TensorSpec& spec = kSpecs[6];
  std::vector<int64_t> table(size_t(spec.dims.Count()));
  RandomTensor(spec, kSeed, kExperts).FillWeight(0, {reinterpret_cast<uint8_t*>(table.data()), table.size() * 8});
  std::vector<int> seen(kExperts);
  for (size_t row = 0; row < table.size(); row += 3) {
    const std::set<int64_t> distinct(table.begin() + int64_t(row), table.begin() + int64_t(row) + 3);
    ASSERT_EQ(distinct.size(), 3u);
    for (int64_t e : distinct) {
      ASSERT_TRUE(e >= 0 && e < kExperts);
      ++seen[size_t(e)];
    }
  }
  // 3000 draws over 16 experts: 187.5 each, deviation 13.
  for (int count : seen) EXPECT_NEAR(count, 187.5, 5 * 13.3);
}

}  // namespace
}  // namespace vexil::convert
