#include "model/expert_placement.h"

#include <gtest/gtest.h>

#include "model/weights.h"

namespace vexil {
namespace {

constexpr int64_t kGib = int64_t(1) << 30;

TEST(ExpertPlacement, ByBudget) {
  // 100 bytes beside 3 layers of 4 experts of 10 bytes: 220 in all, and 140 when every expert shares 4 slots.
  const WeightSizes sizes{100, 4, {10, 10, 10}};
  struct Row {
    int64_t budget;
    std::vector<int64_t> resident;
    int64_t slots, device_bytes;
  };
  const Row rows[] = {
      {1000, {4, 4, 4}, 0, 220}, {220, {4, 4, 4}, 0, 220}, {219, {0, 3, 4}, 4, 210}, {210, {0, 3, 4}, 4, 210},
      {209, {0, 2, 4}, 4, 200},  {180, {0, 0, 4}, 4, 180}, {179, {0, 0, 3}, 4, 170}, {140, {0, 0, 0}, 4, 140},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.budget);
    const Result<ExpertPlacement> p = ExpertPlacement::For(sizes, row.budget);
    ASSERT_TRUE(p.ok()) << p.status().message();
    EXPECT_EQ(p->resident, row.resident);
    EXPECT_EQ(p->slots, row.slots);
    EXPECT_EQ(p->device_bytes, row.device_bytes);
    EXPECT_EQ(p->host_bytes, 10 * p->host_experts);
    EXPECT_EQ(p->all_resident(), row.slots == 0);
  }
}

TEST(ExpertPlacement, SlotsHoldTheLargestHostExpert) {
  const ExpertPlacement p = ExpertPlacement::Of({100, 4, {10, 30, 20}}, {1, 4, 3});
  EXPECT_EQ(p.slots, 3);
  EXPECT_EQ(p.slot_bytes, 20);
  EXPECT_EQ(p.host_experts, 4);
  EXPECT_EQ(p.host_layers(), 2);
  EXPECT_EQ(p.host_bytes, 3 * 10 + 20);
  EXPECT_EQ(p.device_bytes, 100 + 10 + 4 * 30 + 3 * 20 + 3 * 20);
  // Of 2 experts a layer, 2 * 4 / 4 are expected to be host experts, of which 3 in 4 are in a slot.
  EXPECT_DOUBLE_EQ(p.CopiesPerToken(2), 0.5);
}

TEST(ExpertPlacement, TooSmallABudgetSaysWhatIsNeeded) {
  const WeightSizes sizes{2 * kGib, 4, {kGib / 4, kGib / 4}};
  EXPECT_TRUE(ExpertPlacement::For(sizes, 3 * kGib).ok());
  const Result<ExpertPlacement> p = ExpertPlacement::For(sizes, 3 * kGib - 1);
  ASSERT_FALSE(p.ok());
  EXPECT_EQ(p.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(p.status().message(),
            "the weights may take 3.00 GiB of device memory, expected at least 3.00 GiB: 2.00 GiB for everything but "
            "the routed experts and 1.00 GiB for the experts of one layer");
}

TEST(ExpertPlacement, DefaultBudgetLeavesRoomForState) {
  EXPECT_EQ(DefaultWeightBudget(8 * kGib), 7 * kGib);
  EXPECT_EQ(DefaultWeightBudget(160 * kGib), 150 * kGib);
  EXPECT_LT(DefaultWeightBudget(kGib / 2), 0);
}

// The published model on one accelerator of 139 GiB, and on a small one.
TEST(ExpertPlacement, DeepSeekV4Flash) {
  const Result<ModelConfig> config = ModelConfig::ReadFile(VEXIL_SOURCE_DIR "/models/v4-flash/config.json");
  ASSERT_TRUE(config.ok()) << config.status().message();
  const WeightSizes sizes = ModelWeights::Outline(*config).Sizes();
  // Three matrices of 4096 x 2048: half a byte per code and a scale for every 32.
  constexpr int64_t kExpert = 3 * (4096 * 2048 / 2 + 4096 * 2048 / 32);
  ASSERT_EQ(sizes.expert_bytes, std::vector<int64_t>(43, kExpert));
  ASSERT_EQ(sizes.experts_per_layer, 256);
  const double all = double(sizes.fixed + 43 * 256 * kExpert) / double(kGib);
  EXPECT_GT(all, 144);  // the checkpoint's 148.7 GiB hold a speculative block of 3.5 GiB too
  EXPECT_LT(all, 148.7);

  const Result<ExpertPlacement> big = ExpertPlacement::For(sizes, DefaultWeightBudget(139 * kGib));
  ASSERT_TRUE(big.ok());
  EXPECT_EQ(big->slots, 256);
  EXPECT_EQ(big->slot_bytes, kExpert);
  EXPECT_LE(big->device_bytes, DefaultWeightBudget(139 * kGib));
  EXPECT_GT(big->device_bytes + kExpert, DefaultWeightBudget(139 * kGib)) << "one more would fit";
  EXPECT_LE(big->host_layers(), 6);
  EXPECT_LT(double(big->host_experts) / double(big->experts()), 0.13);
  EXPECT_LT(big->CopiesPerToken(6), 30);

  const Result<ExpertPlacement> small = ExpertPlacement::For(sizes, 16 * kGib);
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(small->resident[0], 0);
  EXPECT_GT(small->resident[42], 0);
  EXPECT_FALSE(ExpertPlacement::For(sizes, 10 * kGib).ok());
}

}  // namespace
}  // namespace vexil
