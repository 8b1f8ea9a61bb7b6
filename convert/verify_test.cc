#include "convert/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "convert/runner.h"
#include "convert/shard.h"
#include "io/checkpoint_index.h"
#include "io/safetensors_writer.h"
#include "io/test_files.h"

namespace vexil::convert {
namespace {

const std::string kTiny = std::string(VEXIL_SOURCE_DIR) + "/models/tiny";
const std::string kFile = "model.safetensors";

struct Tensor {
  TensorDeclaration declaration;
  std::string bytes;
};

// Copies of tiny with something wrong.
class VerifyTest : public testing::Test {
 protected:
  VerifyTest() {
    const SafetensorsFile file = *SafetensorsFile::Open(kTiny + "/model-00001-of-00001.safetensors");
    for (const TensorInfo& t : file.tensors()) {
      tensors_.push_back(
          {{t.name, t.dtype, t.dims}, std::string(static_cast<const char*>(t.view.raw()), size_t(t.Bytes()))});
    }
    std::filesystem::copy(kTiny + "/config.json", dir_.path());
  }

  Tensor& At(const std::string& name) {
    const auto it = std::ranges::find_if(tensors_, [&](const Tensor& t) { return t.declaration.name == name; });
    EXPECT_NE(it, tensors_.end()) << name;
    return *it;
  }
  void Remove(const std::string& name) { tensors_.erase(tensors_.begin() + (&At(name) - tensors_.data())); }
  template <class T>
  void Put(const std::string& name, int64_t index, T value) {
    std::memcpy(At(name).bytes.data() + index * int64_t(sizeof(T)), &value, sizeof(T));
  }

  void Write(const std::string& name = kFile) {
    std::vector<TensorDeclaration> declarations;
    for (const Tensor& t : tensors_) declarations.push_back(t.declaration);
    SafetensorsWriter writer = *SafetensorsWriter::Create(dir_ / name, declarations, {});
    for (const Tensor& t : tensors_) ASSERT_TRUE(writer.Write(t.declaration.name, Bytes(t.bytes)).ok());
    ASSERT_TRUE(writer.Finish().ok());
  }

  // The problems' lines without the directory.
  std::vector<std::string> Lines(VerifyOptions options = {}) {
    options.data.threads = 2;
    Result<VerifyReport> report = VerifyCheckpoint(dir_.path(), options);
    EXPECT_TRUE(report.ok()) << ErrorOf(report);
    std::vector<std::string> lines;
    for (const Problem& p : report->problems) {
      std::string line = p.Line();
      for (size_t at; (at = line.find(dir_.path() + "/")) != std::string::npos;) line.erase(at, dir_.path().size() + 1);
      if (line.starts_with(dir_.path())) line.replace(0, dir_.path().size(), "DIR");
      lines.push_back(std::move(line));
    }
    return lines;
  }
  using Expected = std::vector<std::string>;

  TempDir dir_;
  std::vector<Tensor> tensors_;
};

TEST_F(VerifyTest, WholeAndCounted) {
  Write();
  const VerifyReport r = *VerifyCheckpoint(dir_.path(), {});
  EXPECT_TRUE(r.problems.empty());
  EXPECT_EQ(r.files, 1);
  EXPECT_EQ(r.tensors, 786);
  EXPECT_EQ(r.bytes, 10704146);
  EXPECT_EQ(r.formats.at("F8_E8M0").tensors, 338);
  EXPECT_EQ(r.manifest, VerifyReport::ManifestState::kAbsent);
  EXPECT_TRUE(VerifyCheckpoint(dir_ / kFile, {})->problems.empty()) << "one file alone";
}

TEST_F(VerifyTest, ChecksumsNameTheTensor) {
  Write();
  VerifyOptions write;
  write.write_manifest = true;
  EXPECT_EQ(Lines(write), Expected());
  EXPECT_EQ(Lines(), Expected());
  Put<uint8_t>("layers.3.ffn.experts.5.w2.weight", 77, 0x12);
  Write();
  const Expected lines = Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].starts_with("model.safetensors: tensor 'layers.3.ffn.experts.5.w2.weight': found checksum "))
      << lines[0];
  EXPECT_TRUE(lines[0].ends_with(" from the manifest")) << lines[0];
  EXPECT_EQ(CodeOf(VerifyCheckpoint(dir_.path(), write)), Code::kInvalidArgument) << "there is a manifest";
}

TEST_F(VerifyTest, ManifestAgainstOtherFiles) {
  Write();
  VerifyOptions write;
  write.write_manifest = true;
  EXPECT_EQ(Lines(write), Expected());
  At("norm.weight").declaration.dims = {256, 1};
  Remove("hc_head_base");
  Write();
  std::filesystem::copy(dir_ / kFile, dir_ / "z.safetensors");
  std::filesystem::remove(dir_ / kFile);
  const Expected lines = Lines();
  EXPECT_EQ(lines, (Expected{"DIR: tensor 'hc_head_base': found no such tensor, expected shape [4]",
                             "model.safetensors: found no such file, expected it from the manifest",
                             "vexil-manifest.json: found no entry for \"z.safetensors\"",
                             "z.safetensors: tensor 'norm.weight': found shape [256, 1], expected [256]"}));
  std::filesystem::rename(dir_ / "z.safetensors", dir_ / kFile);
  std::filesystem::remove(dir_ / "config.json");
  const Expected again = Lines();
  ASSERT_EQ(again.size(), 4u);
  EXPECT_EQ(
      again[0],
      "config.json: found no such file, expected a configuration (or --config); names and shapes are not checked");
  EXPECT_TRUE(again[1].starts_with("model.safetensors: found 1") && again[1].ends_with(" from the manifest"))
      << again[1];
  EXPECT_EQ(again[2], "model.safetensors: tensor 'hc_head_base': found no such tensor, expected it from the manifest");
  EXPECT_EQ(again[3],
            "model.safetensors: tensor 'norm.weight': found BF16 [256, 1], expected BF16 [256] from the manifest");
}

TEST_F(VerifyTest, ValuesThatNoHealthyTensorHas) {
  Put<uint16_t>("embed.weight", 300, 0x7fc0);  // NaN
  Put<uint16_t>("embed.weight", 700, 0xff80);  // -infinity
  Put<float>("layers.1.attn.attn_sink", 3, INFINITY);
  Put<uint8_t>("layers.0.attn.wq_a.weight", 257, 0xff);     // E4M3 NaN
  Put<uint8_t>("layers.0.attn.wkv.scale", 1, 255);          // E8M0 NaN
  Put<uint8_t>("layers.2.attn.wo_b.scale", 1, 0);           // 2^-127
  Put<uint8_t>("layers.2.ffn.experts.1.w1.scale", 9, 254);  // 2^127
  Put<int64_t>("layers.0.ffn.gate.tid2eid", 7, 16);
  Write();
  EXPECT_EQ(Lines(),
            (Expected{"model.safetensors: tensor 'embed.weight': found 1 NaN and 1 infinite of 524288 values, the "
                      "first at [1, 44], expected finite numbers",
                      "model.safetensors: tensor 'layers.0.attn.wkv.scale': found 1 NaN of 2 values, the first at [0, "
                      "1], expected finite numbers",
                      "model.safetensors: tensor 'layers.0.attn.wq_a.weight': found 1 NaN of 32768 values, the first "
                      "at [1, 1], expected finite numbers",
                      "model.safetensors: tensor 'layers.0.ffn.gate.tid2eid': row 3: found expert 16, expected 0 to 15",
                      "model.safetensors: tensor 'layers.1.attn.attn_sink': found 1 infinite of 8 values, the first at "
                      "[3], expected finite numbers",
                      "model.safetensors: tensor 'layers.2.attn.wo_b.scale': found 1 scales that take values out of "
                      "BF16's normal range, the first at [1, 0] "
                      "with code 0, expected products from 2^-126 to 2^128",
                      "model.safetensors: tensor 'layers.2.ffn.experts.1.w1.scale': found 1 scales that take values "
                      "out of BF16's normal range, the first at "
                      "[1, 1] with code 254, expected products from 2^-126 to 2^128"}));
}

TEST_F(VerifyTest, AnExtremeScaleOverZerosIsHarmless) {
  Put<uint8_t>("layers.2.ffn.experts.1.w1.scale", 0, 0);
  for (int64_t i = 0; i < 16; ++i)
    Put<uint8_t>("layers.2.ffn.experts.1.w1.weight", i, i % 2 ? 0x08 : 0x80);  // 0 and -0
  Write();
  EXPECT_EQ(Lines(), Expected());
}

TEST_F(VerifyTest, AnExpertTwice) {
  Put<int64_t>("layers.0.ffn.gate.tid2eid", 9,
               *reinterpret_cast<const int64_t*>(At("layers.0.ffn.gate.tid2eid").bytes.data() + 64));
  Write();
  const Expected lines = Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].ends_with("twice, expected distinct experts")) << lines[0];
}

// All at once: no fault hides another.
TEST_F(VerifyTest, StructureReportsEverything) {
  Remove("layers.2.attn.indexer.compressor.ape");
  Remove("layers.5.ffn.experts.3.w2.scale");
  At("layers.0.attn.wq_a.weight").declaration.dims = {256, 128};
  At("layers.1.attn.attn_sink").declaration.dtype = DType::kI32;
  At("layers.0.attn.wkv.scale").declaration.dtype = DType::kE4M3;
  tensors_.push_back({{"layers.0.attn.surprise", DType::kF32, {0}}, ""});
  tensors_.push_back({{"model.norm.weight", DType::kBF16, {256}}, At("norm.weight").bytes});
  Write();
  EXPECT_EQ(
      Lines(),
      (Expected{"DIR: tensor 'layers.2.attn.indexer.compressor.ape': found no such tensor, expected shape [4, 64]",
                "DIR: tensor 'layers.5.ffn.experts.3.w2.scale': found no such tensor, expected shape [256, 4]",
                "model.safetensors: tensor 'layers.0.attn.surprise': found a tensor that does not belong to this model",
                "model.safetensors: tensor 'layers.0.attn.wkv.scale': found dtype F8_E4M3, expected F8_E8M0",
                "model.safetensors: tensor 'layers.0.attn.wq_a.weight': found shape [256, 128], expected [128, 256]",
                "model.safetensors: tensor 'layers.1.attn.attn_sink': found dtype I32, expected F32, BF16 or F16",
                "model.safetensors: tensor 'model.norm.weight': found it twice, expected it once: also as "
                "'norm.weight' in \"model.safetensors\""}));
}

TEST_F(VerifyTest, BrokenFileAmongGoodOnes) {
  Write("model-00001-of-00002.safetensors");
  vexil::Put(dir_ / "model-00002-of-00002.safetensors",
             Image("{\"x\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", "short"));
  Expected lines = Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].starts_with("model-00002-of-00002.safetensors: tensor \"x\":")) << lines[0];
  std::filesystem::resize_file(dir_ / "model-00001-of-00002.safetensors", 5'000'000);
  lines = Lines();
  EXPECT_EQ(std::ranges::count_if(lines, [](const std::string& l) { return l.starts_with("model-0000"); }), 2)
      << "both files";
}

TEST_F(VerifyTest, IndexAgainstFiles) {
  Write();
  std::string map;
  for (const Tensor& t : tensors_) {
    if (t.declaration.name == "hc_head_fn") continue;
    map += "\"" + t.declaration.name + "\":\"" + (t.declaration.name == "norm.weight" ? "other.safetensors" : kFile) +
           "\",";
  }
  vexil::Put(dir_ / kCheckpointIndexName,
             "{\"metadata\":{\"total_size\":5},\"weight_map\":{" + map + "\"ghost\":\"" + kFile + "\"}}");
  EXPECT_EQ(
      Lines(),
      (Expected{
          "model.safetensors: tensor 'hc_head_fn': found a tensor that the index does not list",
          "model.safetensors.index.json: found no file \"other.safetensors\", which weight_map names",
          "model.safetensors.index.json: metadata.total_size: found 5, expected 10704146, the bytes of all tensors",
          "model.safetensors.index.json: tensor 'ghost': found it in no file, expected it in \"model.safetensors\"",
          "model.safetensors.index.json: tensor 'norm.weight': found it in \"model.safetensors\", expected it in "
          "\"other.safetensors\""}));
  vexil::Put(dir_ / kCheckpointIndexName, "{");
  ASSERT_EQ(Lines().size(), 1u);
  EXPECT_TRUE(Lines()[0].starts_with("model.safetensors.index.json: line 1"));
}

// Rank files are compared with the share of their rank; every one stands for itself.
TEST_F(VerifyTest, RankFiles) {
  const std::string out = dir_ / "mp2";
  std::shared_ptr<const Source> source = *Source::Open(kTiny, "");
  ASSERT_TRUE(RunJob(*ShardJob(source, out, {.ranks = 2}), {}).ok());
  const auto lines = [&] {
    std::vector<std::string> list;
    const VerifyReport report = *VerifyCheckpoint(out, {});
    for (const Problem& p : report.problems) list.push_back(p.Line().substr(out.size()));
    return list;
  };
  EXPECT_EQ(lines(), Expected());
  EXPECT_TRUE(VerifyCheckpoint(out + "/model1-mp2.safetensors", {})->problems.empty());
  std::filesystem::remove(out + "/vexil-manifest.json");
  std::filesystem::copy(out + "/model0-mp2.safetensors", out + "/model1-mp2.safetensors",
                        std::filesystem::copy_options::overwrite_existing);
  const Expected swapped = lines();
  EXPECT_EQ(swapped.size(), 6u * 8 * (3 + 6))
      << "6 layers: 3 matrices of 8 experts are missing, and those of 8 others surplus, with their scales";
  std::filesystem::remove(out + "/model1-mp2.safetensors");
  EXPECT_EQ(lines(), Expected{": found 1 of 2 rank files, model1-mp2.safetensors is missing"});
}

TEST_F(VerifyTest, NothingToLookAt) {
  EXPECT_EQ(CodeOf(VerifyCheckpoint(dir_ / "absent", {})), Code::kNotFound);
  EXPECT_EQ(CodeOf(VerifyCheckpoint(dir_.path(), {})), Code::kNotFound);
  Write();
  VerifyOptions options;
  options.config_path = dir_ / "absent.json";
  EXPECT_EQ(CodeOf(VerifyCheckpoint(dir_.path(), options)), Code::kNotFound);
}

}  // namespace
}  // namespace vexil::convert
