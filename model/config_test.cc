#include "model/config.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "io/file.h"

namespace vexil {
namespace {

std::string SourcePath(const std::string& path) { return std::string(VEXIL_SOURCE_DIR) + "/" + path; }

Json TinyConfig() { return *Json::Parse(*ReadWholeFile(SourcePath("models/tiny/config.json"), 1 << 20)); }

std::string ErrorOf(const Json& config) {
  const Result<ModelConfig> c = ModelConfig::Parse(config.ToText(), "config.json");
  return c.ok() ? "" : std::string(c.status().message());
}

TEST(ConfigTest, BothDialectsOfTinyMeanTheSame) {
  const ModelConfig hf = *ModelConfig::ReadFile(SourcePath("models/tiny/config.json"));
  const ModelConfig inference = *ModelConfig::ReadFile(SourcePath("models/tiny/inference_config.json"));
// clang-format nests lists of macro calls deeper at each run.
// clang-format off
#define VX_SAME(X) \
  X(vocab_size) X(dim) X(num_layers) X(num_hash_layers) X(num_heads) X(head_dim) X(rope_dim) X(q_lora_rank) \
  X(o_groups) X(o_lora_rank) X(window) X(compress_ratios) X(index_heads) X(index_head_dim) X(index_topk) X(expert_dim) \
  X(num_experts) X(experts_per_token) X(route_scale) X(swiglu_limit) X(hc_mult) X(sinkhorn_iters) X(hc_eps) \
  X(norm_eps) X(rope_theta) X(compress_rope_theta) X(rope_scaling.factor) X(rope_scaling.original_length) X(quantized)
// clang-format on
#define X(member) EXPECT_EQ(hf.member, inference.member) << #member;
  VX_SAME(X)
#undef X
#undef VX_SAME
  EXPECT_EQ(hf.dim, 256);
  EXPECT_EQ(hf.compress_ratios, (std::vector<int64_t>{0, 0, 4, 128, 4, 128}));
}

TEST(ConfigTest, TransformersDialectOfTheGoldens) {
  for (const char* model : {"a", "b"}) {
    const std::string folder = SourcePath("testdata/golden/") + model;
    const ModelConfig release = *ModelConfig::ReadFile(folder + "/config.release.json");
    const ModelConfig transformers = *ModelConfig::ReadFile(folder + "/config.json");
    EXPECT_EQ(release.compress_ratios, transformers.compress_ratios);
    EXPECT_EQ(release.num_hash_layers, transformers.num_hash_layers);
    EXPECT_EQ(release.compress_rope_theta, transformers.compress_rope_theta);
    EXPECT_EQ(release.rope_scaling.factor, transformers.rope_scaling.factor);
    EXPECT_EQ(release.rope_scaling.original_length, transformers.rope_scaling.original_length);
  }
}

TEST(ConfigTest, RatiosAndKindsOfLayersAgree) {
  Json config = TinyConfig();
  Json::Array kinds = {"sliding_attention",           "sliding_attention",
                       "compressed_sparse_attention", "heavily_compressed_attention",
                       "compressed_sparse_attention", "heavily_compressed_attention"};
  config.Set("layer_types", Json(kinds));
  EXPECT_EQ(ErrorOf(config), "");
  std::swap(kinds[1], kinds[2]);
  config.Set("layer_types", Json(kinds));
  EXPECT_NE(ErrorOf(config).find("expected the kinds of layers that compress_ratios gives"), std::string::npos);
}

TEST(ConfigTest, NamesTheKeyAtFault) {
  struct Row {
    const char* key;
    Json value;
    const char* message;
  };
  const Row rows[] = {
      {"hidden_size", -3, "config.json: hidden_size: found -3, expected an integer from 1 to 1048576"},
      {"hidden_size", "wide", "config.json: hidden_size: found \"wide\", expected an integer from 1 to 1048576"},
      {"o_groups", 3, "config.json: o_groups: found 3, expected a divisor of num_attention_heads (8)"},
      {"num_experts_per_tok", 17, "config.json: num_experts_per_tok: found 17, expected at most n_routed_experts (16)"},
      {"qk_rope_head_dim", 128,
       "config.json: qk_rope_head_dim: found 128, expected an even number up to head_dim (64)"},
      {"index_head_dim", 48, "config.json: index_head_dim: found 48, expected a power of two (Hadamard rotation)"},
      {"scoring_func", "sigmoid",
       "config.json: scoring_func: found \"sigmoid\", expected \"sqrtsoftplus\" (nothing else is supported)"},
      {"model_type", "llama",
       "config.json: model_type: found \"llama\", expected \"deepseek_v4\" (nothing else is supported)"},
      {"compress_ratios", Json(Json::Array{0, 4}),
       "config.json: compress_ratios: found a list of 2 entries, expected a list with an entry for each of the 6 "
       "layers"},
      {"compress_ratios", Json(Json::Array{0, 0, 3, 4, 4, 4}),
       "config.json: compress_ratios[2]: found 3, expected 0 or a power of two from 2 to 256"},
      {"num_hash_layers", 7, "config.json: num_hash_layers: found 7, expected an integer from 0 to 6"},
      {"tie_word_embeddings", true,
       "config.json: tie_word_embeddings: found true, expected false (nothing else is supported)"},
      {"rope_scaling", "yarn", "config.json: rope_scaling: found \"yarn\", expected an object"},
      {"rope_scaling", Json(Json::Object{}),
       "config.json: rope_scaling: factor: found no such key, expected a number from 1 to 1000000"},
      {"quantization_config", 4, "config.json: quantization_config: found number, expected an object"},
  };
  for (const Row& row : rows) {
    Json config = TinyConfig();
    config.Set(row.key, row.value);
    EXPECT_EQ(ErrorOf(config), row.message);
  }
  EXPECT_EQ(ErrorOf(TinyConfig()), "");
}

TEST(ConfigTest, EveryKeyMayBeOfAnyTypeWithoutHarm) {
  const Json config = TinyConfig();
  for (const auto& [key, original] : *config.object()) {
    for (const Json& value :
         {Json(nullptr), Json(true), Json(-1), Json(1e300), Json("x"), Json(Json::Array{}), Json(Json::Object{})}) {
      Json changed = config;
      changed.Set(key, value);
      const std::string error = ErrorOf(changed);  // refused or accepted, never a crash
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
  }
}

TEST(ConfigTest, RefusesWhatIsNoConfiguration) {
  EXPECT_EQ(ModelConfig::Parse("[]", "c").status().message(), "c: found array, expected an object");
  EXPECT_EQ(ModelConfig::Parse("{}", "c").status().message(),
            "c: found neither hidden_size nor dim, expected a DeepSeek-V4 configuration");
  EXPECT_FALSE(ModelConfig::Parse("{", "c").ok());
}

}  // namespace
}  // namespace vexil
