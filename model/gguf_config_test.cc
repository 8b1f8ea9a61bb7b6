#include "model/gguf_config.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "io/gguf_writer.h"
#include "model/tensor_names.h"

namespace vexil {
namespace {

TEST(GgufNames, BothWays) {
  const std::pair<const char*, const char*> rows[] = {
      {"embed.weight", "token_embd.weight"},
      {"head.weight", "output.weight"},
      {"hc_head_scale", "output_hc_scale.weight"},
      {"layers.0.attn.wq_a.weight", "blk.0.attn_q_a.weight"},
      {"layers.12.attn.attn_sink", "blk.12.attn_sinks.weight"},
      {"layers.3.attn.indexer.compressor.ape", "blk.3.indexer_compressor_ape.weight"},
      {"layers.3.attn.indexer.weights_proj.weight", "blk.3.indexer.proj.weight"},
      {"layers.3.ffn.gate.bias", "blk.3.exp_probs_b.bias"},
      {"layers.3.ffn.experts.w2.weight", "blk.3.ffn_down_exps.weight"},
  };
  for (const auto& [published, gguf] : rows) {
    EXPECT_EQ(GgufTensorName(published), gguf);
    EXPECT_EQ(PublishedNameOfGguf(gguf), published);
    EXPECT_EQ(CanonicalTensorName(gguf), published);
  }
  for (const char* name :
       {"layers.0.attn.wq_a.scale", "layers.x.attn_norm.weight", "layers.", "layers.1", "mtp.0.norm.weight"}) {
    EXPECT_EQ(GgufTensorName(name), std::nullopt) << name;
  }
  for (const char* name : {"blk.0.attn_q.weight", "blk..attn_norm.weight", "blk.0", ""}) {
    EXPECT_EQ(PublishedNameOfGguf(name), std::nullopt) << name;
  }
}

class GgufConfigTest : public testing::Test {
 protected:
  GgufConfigTest() : metadata_(GgufConfigMetadata(Tiny())) {}
  static ModelConfig Tiny() { return *ModelConfig::ReadFile(VEXIL_SOURCE_DIR "/models/tiny/config.json"); }

  GgufScalarOrArray& At(std::string_view key) {
    for (auto& [k, value] : metadata_) {
      if (k == key) return value;
    }
    ADD_FAILURE() << key;
    return metadata_[0].second;
  }
  void Remove(std::string_view key) {
    EXPECT_EQ(std::erase_if(metadata_, [&](const auto& entry) { return entry.first == key; }), 1u) << key;
  }
  Result<ModelConfig> Read() {
    const std::string path = testing::TempDir() + "/vexil_gguf_config_test.gguf";
    EXPECT_TRUE(GgufWriter::Create(path, {}, metadata_)->Finish().ok());
    const GgufFile file = *GgufFile::Open(path);
    std::filesystem::remove(path);
    return ReadGgufConfig(file);
  }
  // Without the path.
  std::string Error() {
    const Result<ModelConfig> config = Read();
    if (config.ok()) return "no error";
    const std::string message(config.status().message());
    return message.substr(message.find(": ") + 2);
  }
  GgufMetadata metadata_;
};

TEST_F(GgufConfigTest, EveryNumberComesBack) {
  const Result<ModelConfig> read = Read();
  ASSERT_TRUE(read.ok()) << read.status().message();
  const ModelConfig want = Tiny();
// clang-format nests lists of macro calls deeper at each run.
// clang-format off
#define VX_SAME(X) \
  X(vocab_size) X(dim) X(num_layers) X(num_hash_layers) X(num_heads) X(head_dim) X(rope_dim) X(q_lora_rank) \
  X(o_groups) X(o_lora_rank) X(window) X(compress_ratios) X(index_heads) X(index_head_dim) X(index_topk) \
  X(expert_dim) X(num_experts) X(experts_per_token) X(route_scale) X(swiglu_limit) X(hc_mult) X(sinkhorn_iters) \
  X(hc_eps) X(norm_eps) X(rope_theta) X(compress_rope_theta) X(max_positions) X(bos_id) X(eos_id) \
  X(rope_scaling.factor) X(rope_scaling.original_length) X(rope_scaling.beta_fast) X(rope_scaling.beta_slow)
// clang-format on
#define X(member) EXPECT_EQ(read->member, want.member);
  VX_SAME(X)
#undef X
#undef VX_SAME
}

TEST_F(GgufConfigTest, AFileWithoutYarn) {
  Remove("deepseek4.rope.scaling.type");
  const Result<ModelConfig> read = Read();
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->rope_scaling.original_length, 0);
}

TEST_F(GgufConfigTest, MistakesNameTheKey) {
  const auto with = [&](std::string_view key, GgufScalarOrArray value) {
    const GgufMetadata saved = metadata_;
    At(key) = std::move(value);
    const std::string error = Error();
    metadata_ = saved;
    return error;
  };
  EXPECT_EQ(with("general.architecture", std::string("llama")),
            "general.architecture: found \"llama\", expected \"deepseek4\"");
  EXPECT_EQ(with("deepseek4.block_count", std::string("6")), "deepseek4.block_count: found \"6\", expected a number");
  EXPECT_EQ(with("deepseek4.attention.head_count_kv", 2u),
            "deepseek4.attention.head_count_kv: found 2, expected 1 (nothing else is supported)");
  EXPECT_EQ(with("deepseek4.expert_gating_func", 2u),
            "deepseek4.expert_gating_func: found 2, expected 4 (nothing else is supported)");
  EXPECT_EQ(with("deepseek4.expert_weights_norm", false),
            "deepseek4.expert_weights_norm: found false, expected true (nothing else is supported)");
  EXPECT_EQ(with("deepseek4.swiglu_clamp_exp", std::vector<float>{10, 9}),
            "deepseek4.swiglu_clamp_exp: found 2 x F32, expected one number for all layers");
  EXPECT_EQ(with("deepseek4.rope.scaling.type", std::string("linear")),
            "deepseek4.rope.scaling.type: found \"linear\", expected \"yarn\" or \"none\"");
  EXPECT_NE(with("deepseek4.attention.compress_ratios", std::vector<int32_t>{0}).find("compress_ratios"),
            std::string::npos);
  EXPECT_NE(with("deepseek4.rope.freq_base", 0.0f / 0.0f).find("expected a number"), std::string::npos);
  Remove("deepseek4.embedding_length");
  EXPECT_EQ(Error(), "metadata deepseek4.embedding_length is missing");
}

}  // namespace
}  // namespace vexil
