#include "model/weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "io/safetensors_writer.h"
#include "model/tensor_names.h"

namespace vexil {
namespace {

std::string SourcePath(const std::string& path) { return std::string(VEXIL_SOURCE_DIR) + "/" + path; }

TEST(TensorNamesTest, EveryDialectEndsAtThePublishedName) {
  const std::pair<const char*, const char*> rows[] = {
      {"layers.3.attn.wq_a.weight", "layers.3.attn.wq_a.weight"},
      {"model.layers.3.self_attn.q_a_proj.weight", "layers.3.attn.wq_a.weight"},
      {"model.layers.3.self_attn.q_a_proj.weight_scale_inv", "layers.3.attn.wq_a.scale"},
      {"model.layers.3.self_attn.q_a_norm.weight", "layers.3.attn.q_norm.weight"},
      {"model.layers.3.self_attn.sinks", "layers.3.attn.attn_sink"},
      {"model.layers.0.self_attn.compressor.indexer.scorer.weights_proj.weight",
       "layers.0.attn.indexer.weights_proj.weight"},
      {"model.layers.0.self_attn.compressor.indexer.position_bias", "layers.0.attn.indexer.compressor.ape"},
      {"model.layers.0.self_attn.compressor.kv_norm.weight", "layers.0.attn.compressor.norm.weight"},
      {"model.layers.0.attn_hc.fn", "layers.0.hc_attn_fn"},
      {"model.layers.0.mlp.gate.e_score_correction_bias", "layers.0.ffn.gate.bias"},
      {"model.layers.0.mlp.shared_experts.up_proj.weight", "layers.0.ffn.shared_experts.w3.weight"},
      {"model.layers.0.mlp.experts.7.down_proj.weight", "layers.0.ffn.experts.7.w2.weight"},
      {"model.layers.0.mlp.experts.gate_up_proj", "layers.0.ffn.experts.gate_up_proj"},
      {"model.hc_head.hc_scale", "hc_head_scale"},
      {"model.embed_tokens.weight", "embed.weight"},
      {"lm_head.weight", "head.weight"},
      {"model.norm.weight", "norm.weight"},
  };
  for (const auto& [stored, published] : rows) EXPECT_EQ(CanonicalTensorName(stored), published);
}

// Copies of tiny with one thing wrong.
class WeightsTest : public testing::Test {
 protected:
  WeightsTest() : tiny_(*SafetensorsFile::Open(SourcePath("models/tiny/model-00001-of-00001.safetensors"))) {
    for (const TensorInfo& t : tiny_.tensors()) {
      declared_.push_back({t.name, t.dtype, t.dims});
      bytes_.push_back({static_cast<const uint8_t*>(t.view.raw()), size_t(t.Bytes())});
    }
  }
  size_t At(const std::string& name) const {
    for (size_t i = 0; i < declared_.size(); ++i) {
      if (declared_[i].name == name) return i;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  void Remove(const std::string& name) {
    const int64_t i = int64_t(At(name));
    declared_.erase(declared_.begin() + i);
    bytes_.erase(bytes_.begin() + i);
  }
  // The error of loading the changed copy, without its path.
  std::string Error() {
    const std::string path = testing::TempDir() + "/vexil_weights_test_" + std::to_string(::getpid()) + ".safetensors";
    SafetensorsWriter writer = *SafetensorsWriter::Create(path, declared_, {});
    for (size_t i = 0; i < declared_.size(); ++i) EXPECT_TRUE(writer.Write(declared_[i].name, bytes_[i]).ok());
    EXPECT_TRUE(writer.Finish().ok());
    const ModelConfig config = *ModelConfig::ReadFile(SourcePath("models/tiny/config.json"));
    const Result<ModelWeights> w =
        ModelWeights::Load(std::make_shared<const CheckpointFiles>(*CheckpointFiles::Open(path)), config);
    std::filesystem::remove(path);
    if (w.ok()) return "";
    const std::string message(w.status().message());
    EXPECT_EQ(message.substr(0, path.size() + 2), path + ": ");
    return message.substr(path.size() + 2);
  }
  SafetensorsFile tiny_;
  std::vector<TensorDeclaration> declared_;
  std::vector<std::span<const uint8_t>> bytes_;
};

TEST_F(WeightsTest, Whole) { EXPECT_EQ(Error(), ""); }

TEST_F(WeightsTest, Missing) {
  Remove("layers.2.attn.indexer.compressor.ape");
  EXPECT_EQ(Error(), "tensor 'layers.2.attn.indexer.compressor.ape' is missing");
}

TEST_F(WeightsTest, MissingScale) {
  Remove("layers.5.ffn.experts.3.w2.scale");
  EXPECT_EQ(Error(), "tensor 'layers.5.ffn.experts.3.w2.scale' is missing");
}

TEST_F(WeightsTest, Extra) {
  declared_[At("norm.weight")].name = "norm.weight";
  declared_.push_back({"layers.0.attn.surprise", DType::kF32, {0}});
  bytes_.push_back({});
  EXPECT_EQ(Error(), "tensor 'layers.0.attn.surprise' does not belong to this model");
}

TEST_F(WeightsTest, Misshapen) {
  declared_[At("layers.0.attn.wq_a.weight")].dims = {256, 128};
  EXPECT_EQ(Error(), "tensor 'layers.0.attn.wq_a.weight': found shape [256, 128], expected [128, 256]");
}

TEST_F(WeightsTest, Mistyped) {
  declared_[At("layers.1.attn_norm.weight")].dtype = DType::kF16;
  EXPECT_EQ(Error(), "") << "any float format serves";
  TensorDeclaration& d = declared_[At("layers.1.attn.attn_sink")];
  d.dtype = DType::kI32;
  EXPECT_EQ(Error(), "tensor 'layers.1.attn.attn_sink': found dtype I32, expected F32, BF16 or F16");
}

TEST_F(WeightsTest, ParametersAndTileScalesAreFinite) {
  const size_t norm = At("layers.1.attn_norm.weight"), scale = At("layers.0.attn.wkv.scale");
  std::vector<uint8_t> values(bytes_[norm].begin(), bytes_[norm].end()),
      scales(bytes_[scale].begin(), bytes_[scale].end());
  scales[1] = 255;
  bytes_[scale] = scales;
  EXPECT_EQ(Error(), "tensor 'layers.0.attn.wkv.scale': element 1: found NaN, expected a finite number");
  scales[1] = 127;
  values[6] = 0x80;
  values[7] = 0x7F;
  bytes_[norm] = values;
  EXPECT_EQ(Error(), "tensor 'layers.1.attn_norm.weight': element 3: found inf, expected a finite number");
}

TEST_F(WeightsTest, ScaleOfAnotherType) {
  declared_[At("layers.0.attn.wkv.scale")].dtype = DType::kE4M3;
  EXPECT_EQ(Error(), "tensor 'layers.0.attn.wkv.scale': found dtype F8_E4M3, expected F8_E8M0");
}

TEST_F(WeightsTest, ExpertTableOutOfRangeOrRepeating) {
  const size_t i = At("layers.0.ffn.gate.tid2eid");
  std::vector<uint8_t> table(bytes_[i].begin(), bytes_[i].end());
  bytes_[i] = table;
  const int64_t sixteen = 16;
  std::memcpy(table.data() + 8 * 7, &sixteen, 8);
  EXPECT_EQ(Error(), "tensor 'layers.0.ffn.gate.tid2eid': row 3: found expert 16, expected 0 to 15");
  std::memcpy(table.data() + 8 * 7, table.data() + 8 * 6, 8);
  EXPECT_NE(Error().find("twice, expected distinct experts"), std::string::npos);
}

TEST_F(WeightsTest, TwoNamesForOneTensor) {
  declared_.push_back({"model.norm.weight", DType::kBF16, {256}});
  bytes_.push_back(bytes_[At("norm.weight")]);
  EXPECT_NE(Error().find("also stored as"), std::string::npos);
}

}  // namespace
}  // namespace vexil
