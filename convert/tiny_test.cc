// Every mode on models/tiny, end to end.
#include <cstring>

#include "convert/dequantize.h"
#include "convert/expand.h"
#include "convert/quantize.h"
#include "convert/runner.h"
#include "convert/shard.h"
#include "convert/source_layout.h"
#include "convert/unshard.h"
#include "io/test_files.h"

namespace vexil::convert {
namespace {

const std::string kTiny = std::string(VEXIL_SOURCE_DIR) + "/models/tiny";

std::shared_ptr<const Source> Open(const std::string& path) {
  Result<std::unique_ptr<const Source>> s = Source::Open(path, "");
  EXPECT_TRUE(s.ok()) << ErrorOf(s);
  return *std::move(s);
}

RunSummary Convert(Result<Job> job) {
  EXPECT_TRUE(job.ok()) << ErrorOf(job);
  Result<RunSummary> summary = RunJob(*job, {.threads = 2});
  EXPECT_TRUE(summary.ok()) << ErrorOf(summary);
  return *std::move(summary);
}

// Files of the original that the directory holds otherwise or not at all.
std::vector<std::string> Different(const std::string& directory) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(kTiny)) {
    const std::string name = entry.path().filename();
    if (Get(kTiny + "/" + name) != Get(directory + "/" + name)) out.push_back(name);
  }
  return out;
}

TEST(Tiny, ShardsReassembleByteForByte) {
  for (int64_t ranks : {1, 2, 4}) {
    TempDir dir;
    ShardOptions options{.ranks = ranks, .o_groups = ranks > 2 ? 2 : 0};
    Convert(ShardJob(Open(kTiny), dir / "ranks", options));
    Convert(UnshardJob(dir / "ranks", "", dir / "whole", 0));
    EXPECT_EQ(Different(dir / "whole"), std::vector<std::string>()) << ranks;
  }
}

TEST(Tiny, RankFilesHoldWhatTheRulesSay) {
  TempDir dir;
  Convert(ShardJob(Open(kTiny), dir / "ranks", {.ranks = 2}));
  const SafetensorsFile whole = *SafetensorsFile::Open(kTiny + "/model-00001-of-00001.safetensors");
  const SafetensorsFile rank = *SafetensorsFile::Open(dir / "ranks/model1-mp2.safetensors");
  const auto same = [](const TensorView& a, const void* b) { return std::memcmp(a.raw(), b, size_t(a.Bytes())) == 0; };
  const TensorInfo* embed = rank.Find("embed.weight");
  EXPECT_EQ(embed->dims, (Dims{1024, 256}));
  EXPECT_TRUE(same(embed->view, whole.Find("embed.weight")->view.Row<BF16>(1024)));
  const TensorInfo* expert = rank.Find("layers.2.ffn.experts.8.w1.weight");
  EXPECT_EQ(expert->dtype, DType::kE2M1x2);
  EXPECT_TRUE(same(expert->view, whole.Find("layers.2.ffn.experts.8.w1.weight")->view.raw()));
  EXPECT_EQ(rank.Find("layers.2.ffn.experts.7.w1.weight"), nullptr);
  EXPECT_EQ(rank.Find("layers.2.attn.wo_a.scale"), nullptr);
  const TensorInfo* wo_a = rank.Find("layers.2.attn.wo_a.weight");
  const TensorInfo *codes = whole.Find("layers.2.attn.wo_a.weight"), *scales = whole.Find("layers.2.attn.wo_a.scale");
  ASSERT_EQ(wo_a->dtype, DType::kBF16);
  ASSERT_EQ(wo_a->dims, (Dims{64, 256}));
  for (int64_t r = 0; r < 64; ++r) {
    for (int64_t c = 0; c < 256; ++c) {
      const float want = codes->view.Row<E4M3>(64 + r)[c].ToFloat() * scales->view.Row<E8M0>(0)[c / 128].ToFloat();
      ASSERT_EQ(wo_a->view.Row<BF16>(r)[c].ToFloat(), want) << r << " " << c;
    }
  }
  const TensorInfo *part = rank.Find("layers.2.attn.wo_b.weight"), *wo_b = whole.Find("layers.2.attn.wo_b.weight");
  for (int64_t r = 0; r < 256; ++r)
    ASSERT_EQ(std::memcmp(part->view.Row<E4M3>(r), wo_b->view.Row<E4M3>(r) + 64, 64), 0);
  const ModelConfig c = *ModelConfig::ReadFile(dir / "ranks/config.json"),
                    original = *ModelConfig::ReadFile(kTiny + "/config.json");
  EXPECT_EQ(c.compress_ratios, original.compress_ratios);
  EXPECT_EQ(c.rope_scaling.factor, original.rope_scaling.factor);
  EXPECT_EQ(c.route_scale, original.route_scale);
}

TEST(Tiny, RanksWithoutTheRecordOfTheSourceAreJoinedAsTheyAre) {
  TempDir dir;
  Convert(ShardJob(Open(kTiny), dir / "ranks", {.ranks = 2}));
  std::filesystem::remove(dir / "ranks/vexil-source.json");
  const Result<Job> job = UnshardJob(dir / "ranks", "", dir / "whole", 0);
  ASSERT_TRUE(job.ok()) << ErrorOf(job);
  EXPECT_EQ(job->remarks({}).at(0),
            "not the original files: vexil-source.json is not beside the ranks; wo_a stays BF16");
  ASSERT_TRUE(RunJob(*job, {}).ok());
  const std::shared_ptr<const Source> whole = Open(dir / "whole");
  EXPECT_EQ(whole->Find("layers.1.attn.wo_a.weight")->info->dtype, DType::kBF16);
  EXPECT_EQ(whole->Find("layers.1.attn.wq_b.weight")->info->dims, (Dims{512, 128}));
}

TEST(Tiny, RanksThatDisagreeAreNotJoined) {
  TempDir dir;
  Convert(ShardJob(Open(kTiny), dir / "ranks", {.ranks = 2}));
  const std::string path = dir / "ranks/model1-mp2.safetensors";
  std::string bytes = Get(path);
  const SafetensorsFile rank = *SafetensorsFile::Open(path);
  bytes[size_t(rank.Find("norm.weight")->begin)] ^= 1;
  Put(path, bytes);
  const Result<Job> job = UnshardJob(dir / "ranks", "", dir / "whole", 0);
  ASSERT_TRUE(job.ok()) << ErrorOf(job);
  EXPECT_EQ(ErrorOf(RunJob(*job, {})), path + ": tensor \"norm.weight\": found other bytes than in " + dir.path() +
                                           "/ranks/model0-mp2.safetensors, expected the same on both ranks");
  EXPECT_FALSE(IsDirectory(dir / "whole"));
}

TEST(Tiny, DequantizedIsBF16AndQuantizingItGivesTheSameValues) {
  TempDir dir;
  const std::shared_ptr<const Source> tiny = Open(kTiny);
  Convert(DequantizeJob(tiny, dir / "bf16", {.shard_bytes = 4'000'000}));
  const std::shared_ptr<const Source> bf16 = Open(dir / "bf16");
  EXPECT_EQ(bf16->files().files().size(), 7u);
  EXPECT_EQ(bf16->config().Find("quantization_config"), nullptr);
  for (const SourceTensor& t : bf16->tensors()) {
    const DType stored = tiny->Find(t.name)->info->dtype;
    EXPECT_EQ(t.info->dtype, stored == DType::kF32 || stored == DType::kI64 ? stored : DType::kBF16) << t.name;
    EXPECT_EQ(t.info->begin % BytesOf(t.info->dtype), 0) << t.name;
  }
  const RunSummary summary =
      Convert(QuantizeJob(bf16, dir / "again", {.experts = Target::kE2M1, .linears = true, .shard_bytes = 1 << 30}));
  size_t quantized = 0;
  for (const Json& notes : summary.files.at(0).notes) {
    if (notes.is_null()) continue;
    ++quantized;
    EXPECT_EQ(notes.Find("max_error")->Double(), 0.0) << "the values had this format before";
  }
  EXPECT_EQ(quantized, 338u) << "the tensors with scales";
  const std::shared_ptr<const Source> again = Open(dir / "again");
  EXPECT_EQ(again->tensors().size(), tiny->tensors().size());
  EXPECT_EQ(*again->config().Find("quantization_config")->Find("quant_method"), Json("fp8"));
}

TEST(Tiny, Int8ExpertsAreMarkedAndClose) {
  TempDir dir;
  Convert(DequantizeJob(Open(kTiny), dir / "bf16", {}));
  const RunSummary summary = Convert(QuantizeJob(Open(dir / "bf16"), dir / "int8", {.experts = Target::kInt8}));
  const std::shared_ptr<const Source> int8 = Open(dir / "int8");
  EXPECT_EQ(*int8->config().Find("quantization_config")->Find("quant_method"), Json("linear_int8"));
  const SourceTensor* w = int8->Find("layers.0.ffn.experts.3.w2.weight");
  EXPECT_EQ(w->storage, Storage::kInt8);
  EXPECT_EQ(w->scale->info->dims, (Dims{256}));
  size_t quantized = 0;
  for (const FileRecord& f : summary.files) {
    for (const Json& n : f.notes) {
      if (n.is_null()) continue;
      ++quantized;
      EXPECT_GT(*n.Find("cosine")->Double(), 0.9999);
    }
  }
  EXPECT_EQ(quantized, 6u * 16 * 3) << "the matrices of the experts";
  const std::string page = Get(dir / "int8/vexil-quantize.html");
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_NE(page.find("layers.0.ffn.experts."), std::string::npos);
  const Result<Job> twice = QuantizeJob(int8, dir / "twice", {.experts = Target::kInt8});
  EXPECT_NE(ErrorOf(twice).find("already quantised, expected BF16"), std::string::npos);
}

TEST(Tiny, Fp8ExpertsAreRepackedWithoutRounding) {
  TempDir dir;
  Convert(ShardJob(Open(kTiny), dir / "fp8", {.ranks = 1, .experts = ShardExperts::kE4M3}));
  EXPECT_EQ(*Json::Parse(Get(dir / "fp8/vexil-repack.json"))->Find("rounded"), Json(0));
  EXPECT_EQ(Json::Parse(Get(dir / "fp8/config.json"))->Find("expert_dtype"), nullptr);
  const SafetensorsFile file = *SafetensorsFile::Open(dir / "fp8/model0-mp1.safetensors");
  const SafetensorsFile whole = *SafetensorsFile::Open(kTiny + "/model-00001-of-00001.safetensors");
  const std::string stem = "layers.4.ffn.experts.5.w1";
  const TensorInfo *codes = file.Find(stem + ".weight"), *scales = file.Find(stem + ".scale");
  const TensorInfo *pairs = whole.Find(stem + ".weight"), *groups = whole.Find(stem + ".scale");
  for (int64_t r = 0; r < 128; ++r) {
    std::vector<BF16> want(256), got(256);
    ExpandE2M1(reinterpret_cast<const E2M1x2*>(pairs->view.Row<int8_t>(r)), 256, groups->view.Row<E8M0>(r),
               want.data());
    for (int64_t c : {0, 128})
      ExpandE4M3(codes->view.Row<E4M3>(r) + c, 128, scales->view.Row<E8M0>(0)[c / 128], got.data() + c);
    ASSERT_EQ(got, want) << r;
  }
}

TEST(SourceLayout, SurvivesARoundTrip) {
  SourceLayout layout;
  layout.files = {{"a.safetensors", "{ \"x\": \"\\\"\" }   "}};
  layout.config = "{\n}";
  layout.scales["s"] = {0, 127, 255};
  const Result<SourceLayout> read = ParseSourceLayout(FormatSourceLayout(layout), "p");
  ASSERT_TRUE(read.ok()) << ErrorOf(read);
  EXPECT_EQ(read->files[0].header, layout.files[0].header);
  EXPECT_EQ(read->config, layout.config);
  EXPECT_EQ(read->scales, layout.scales);
  EXPECT_EQ(ErrorOf(ParseSourceLayout(R"({"version":1,"files":[{"name":"../x","header":""}]})", "p")),
            "p: files: expected plain names and headers");
}

}  // namespace
}  // namespace vexil::convert
