#include "convert/make_checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "convert/compare.h"
#include "convert/runner.h"
#include "convert/verify.h"
#include "io/test_files.h"
#include "ops/elements.h"
#include "testing/model_runner.h"

namespace vexil::convert {
namespace {

// Every kind of layer, small, with widths that are not multiples of a tile.
constexpr std::string_view kConfig = R"({
 "model_type": "deepseek_v4", "vocab_size": 640, "hidden_size": 192, "moe_intermediate_size": 96, "num_hidden_layers": 6,
 "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 64, "qk_rope_head_dim": 16, "q_lora_rank": 96,
 "num_experts_per_tok": 2, "n_routed_experts": 8, "n_shared_experts": 1, "routed_scaling_factor": 1.5,
 "scoring_func": "sqrtsoftplus", "rope_theta": 10000, "compress_rope_theta": 160000, "num_hash_layers": 1, "swiglu_limit": 10.0,
 "sliding_window": 32, "o_groups": 2, "o_lora_rank": 64, "index_n_heads": 4, "index_head_dim": 32, "index_topk": 16,
 "num_nextn_predict_layers": 1, "compress_ratios": [0, 4, 128, 4, 128, 4, 0]})";

class MakeCheckpointTest : public testing::Test {
 protected:
  MakeCheckpointTest() {
    Put(dir_ / "config.json", kConfig);
    options_.config_path = dir_ / "config.json";
    options_.seed = 11;
  }

  std::string Make(const std::string& name, const MakeOptions& options, int threads = 2) {
    const Result<Job> job = MakeCheckpointJob(options, dir_ / name);
    EXPECT_TRUE(job.ok()) << ErrorOf(job);
    const Result<RunSummary> summary = RunJob(*job, {.threads = threads});
    EXPECT_TRUE(summary.ok()) << ErrorOf(summary);
    return dir_ / name;
  }

  // Checksum by tensor, whatever the file.
  static std::map<std::string, uint64_t> Checksums(const std::string& path) {
    std::map<std::string, uint64_t> sums;
    const Manifest manifest = *ReadManifest(path);
    for (const ManifestFile& f : manifest.files) {
      for (const ManifestTensor& t : f.tensors) sums[t.name] = t.xxh3;
    }
    EXPECT_GT(sums.size(), 200u);
    return sums;
  }

  static void ExpectWhole(const std::string& path) {
    const VerifyReport report = *VerifyCheckpoint(path, {});
    for (const Problem& p : report.problems) ADD_FAILURE() << p.Line();
    EXPECT_EQ(report.manifest, VerifyReport::ManifestState::kChecked);
  }

  TempDir dir_;
  MakeOptions options_;
};

TEST_F(MakeCheckpointTest, WholeAndIndependentOfThreadsAndShards) {
  const std::string one = Make("one", options_, 1);
  ExpectWhole(one);
  options_.shard_bytes = 200'000;
  const std::string many = Make("many", options_, 4);
  ExpectWhole(many);
  EXPECT_GT(ReadManifest(many)->files.size(), 5u);
  EXPECT_EQ(Checksums(one), Checksums(many));
  options_.seed = 12;
  const auto other = Checksums(Make("other", options_));
  for (const auto& [name, sum] : Checksums(one)) {
    // A scale of a few blocks may well come out the same.
    if (name.ends_with(".scale")) continue;
    EXPECT_NE(other.at(name), sum) << name;
  }
}

TEST_F(MakeCheckpointTest, Bf16PlanHoldsTheSameValues) {
  const std::string official = Make("official", options_);
  options_.plan = DTypePlan::kBf16;
  const std::string bf16 = Make("bf16", options_);
  ExpectWhole(bf16);
  ProblemList problems;
  const auto differences = *CompareCheckpoints(**Source::Open(official, ""), **Source::Open(bf16, ""), {}, problems);
  EXPECT_TRUE(problems.Take().empty());
  EXPECT_GT(differences.size(), 200u);
  for (const TensorDifference& d : differences) EXPECT_EQ(d.max_abs, 0) << d.name;
  EXPECT_FALSE(ModelConfig::ReadFile(bf16 + "/config.json")->quantized);
}

TEST_F(MakeCheckpointTest, ChangedSizes) {
  options_.layers = 3;
  options_.experts = 5;
  options_.draft_layers = 1;
  const std::string path = Make("small", options_);
  ExpectWhole(path);
  const ModelConfig c = *ModelConfig::ReadFile(path + "/config.json");
  EXPECT_EQ(c.num_layers, 3);
  EXPECT_EQ(c.num_experts, 5);
  EXPECT_EQ(c.num_draft_layers, 1);
  const auto sums = Checksums(path);
  EXPECT_TRUE(sums.contains("mtp.0.e_proj.weight"));
  EXPECT_FALSE(sums.contains("layers.3.attn_norm.weight"));
  // What the two have in common is the same.
  const auto all = Checksums(Make("all", {.config_path = options_.config_path, .seed = options_.seed}));
  EXPECT_EQ(sums.at("layers.2.ffn.experts.4.w3.weight"), all.at("layers.2.ffn.experts.4.w3.weight"));
  options_ = {.config_path = options_.config_path, .ratios = {128, 4}};
  EXPECT_EQ(ModelConfig::ReadFile(Make("ratios", options_) + "/config.json")->compress_ratios,
            (std::vector<int64_t>{128, 4}));
}

TEST_F(MakeCheckpointTest, RefusesInOneLine) {
  const auto error = [&](MakeOptions o) {
    o.config_path = dir_ / "config.json";
    return ErrorOf(MakeCheckpointJob(o, dir_ / "out"));
  };
  EXPECT_EQ(error({.layers = 9}), "--layers: found 9, expected at most the 6 of the configuration (or --ratios)");
  EXPECT_EQ(error({.layers = 3, .ratios = {0, 4}}), "--ratios: found 2 entries, expected one for each of the 3 layers");
  EXPECT_NE(error({.ratios = {3}}).find("compress_ratios[0]: found 3"), std::string::npos);
  Put(dir_ / "config.json", "{}");
  EXPECT_NE(error({}), "no error");
}

// Streams of the order of one after every layer, and logits that are finite and vary over tokens and positions.
TEST_F(MakeCheckpointTest, ActivationsStaySane) {
  const std::string path = Make("run", options_);
  for (NumericsMode mode : {NumericsMode::kF32, NumericsMode::kFp8}) {
    ModelOptions load;
    load.numerics = mode;
    const auto model = *Model::Load(path, load);
    Ids ids;
    for (int i = 0; i < 200; ++i) ids.push_back((i * i * 7 + 3 * i) % 640);
    std::vector<double> rms;
    const v4::Observer observer = [&](int64_t, std::string_view what, const TensorView& v) {
      if (what != "out") return;
      double sum = 0;
      WithFloatType(v.dtype(), [&](auto e) {
        for (int64_t i = 0; i < v.dims().Count(); ++i)
          sum += double(ToFloat(v.Data<decltype(e)>()[i])) * ToFloat(v.Data<decltype(e)>()[i]);
      });
      rms.push_back(std::sqrt(sum / double(v.dims().Count())));
    };
    Runner runner(*model, 2);
    const Rows logits = runner.WholeAtOnce(ids, &observer);
    ASSERT_EQ(rms.size(), 6u);
    for (double r : rms) {
      EXPECT_GT(r, 0.3);
      EXPECT_LT(r, 10);
    }
    double sum = 0, squares = 0;
    std::set<int64_t> winners;
    for (size_t row = 0; row < ids.size(); ++row) {
      const auto begin = logits.begin() + int64_t(row) * 640;
      winners.insert(std::max_element(begin, begin + 640) - begin);
      for (auto it = begin; it != begin + 640; ++it) sum += *it, squares += double(*it) * *it;
    }
    ASSERT_TRUE(std::isfinite(squares));
    const double n = double(logits.size());
    EXPECT_NEAR(std::sqrt(squares / n - sum * sum / n / n), 2, 1) << "the head's deviation";
    EXPECT_GT(winners.size(), 20u);
  }
}

}  // namespace
}  // namespace vexil::convert
