// models/tiny as GGUF, and its experts in INT8 and FP8: what runs from the converted files.
#include "convert/gguf.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "convert/dequantize.h"
#include "convert/gguf_tokenizer.h"
#include "convert/quantize.h"
#include "convert/runner.h"
#include "convert/shard.h"
#include "convert/ungguf.h"
#include "convert/unshard.h"
#include "io/gguf.h"
#include "io/test_files.h"
#include "model/tensor_names.h"
#include "model/v4/model.h"

namespace vexil::convert {
namespace {

const std::string kTiny = std::string(VEXIL_SOURCE_DIR) + "/models/tiny";

std::shared_ptr<const Source> Open(const std::string& path) {
  Result<std::unique_ptr<const Source>> s = Source::Open(path, "");
  EXPECT_TRUE(s.ok()) << ErrorOf(s);
  return *std::move(s);
}

void Convert(Result<Job> job) {
  ASSERT_TRUE(job.ok()) << ErrorOf(job);
  const Result<RunSummary> summary = RunJob(*job, {.threads = 2});
  ASSERT_TRUE(summary.ok()) << ErrorOf(summary);
}

// Logits of a sequence that fills windows and compressors, by the plain kernels: they compute every format in one
// order.
std::vector<float> Logits(const std::string& path, NumericsMode mode, std::string* plan = nullptr) {
  ModelOptions options;
  options.numerics = mode;
  Result<std::unique_ptr<Model>> loaded = Model::Load(path, options);
  EXPECT_TRUE(loaded.ok()) << ErrorOf(loaded);
  if (!loaded.ok()) return {};
  const Model& model = **loaded;
  ThreadPool threads(2);
  Arena arena;
  Context ctx;
  ctx.threads = &threads;
  ctx.workspace = &arena;
  ctx.choice = KernelChoice::kPlain;
  std::mt19937 random(1);
  std::vector<int32_t> ids(140);
  for (int32_t& id : ids) id = int32_t(random() % uint32_t(model.config().vocab_size));
  const std::unique_ptr<StatePool> pool = *StatePool::Create(StateLayout::For(model.config(), model.numerics()), 1, 2);
  SequenceState sequence = *pool->NewSequence();
  const SequenceChunk chunk{&sequence, ids, LogitRows::kAll};
  const Dims dims = {int64_t(ids.size()), model.config().vocab_size};
  std::vector<float> out(size_t(dims.Count()));
  const Status s = model.Step(ctx, *pool, {&chunk, 1}, MutTensorView(out.data(), DType::kF32, dims));
  EXPECT_TRUE(s.ok()) << ErrorOf(s);
  if (plan != nullptr) {
    const Result<Plan> p = model.MakePlan(ctx, 1);
    for (const Plan::Entry& e : p->entries()) *plan += e.kernel + "\n";
  }
  return out;
}

// The relative distance of the logits of half of the positions: a position whose experts change is far off, and says
// nothing about the arithmetic.
double MedianDistance(const std::vector<float>& a, const std::vector<float>& b) {
  constexpr size_t kVocab = 2048;
  std::vector<double> distances;
  for (size_t row = 0; row < b.size(); row += kVocab) {
    double difference = 0, size = 0;
    for (size_t i = row; i < row + kVocab; ++i) {
      difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
      size += double(b[i]) * b[i];
    }
    distances.push_back(std::sqrt(difference / size));
  }
  std::ranges::nth_element(distances, distances.begin() + int64_t(distances.size() / 2));
  return distances[distances.size() / 2];
}

TEST(GgufConversion, LosslessTypesGiveTheSameLogitsBitForBit) {
  TempDir dir;
  for (const DType experts : {DType::kMXFP4, DType::kBF16}) {
    const std::string output = dir / NameOf(experts);
    Convert(GgufJob(Open(kTiny), output, {.experts = experts, .weights = DType::kBF16}));
    for (const NumericsMode mode : {NumericsMode::kF32, NumericsMode::kBf16}) {
      EXPECT_EQ(Logits(output + "/model.gguf", mode), Logits(kTiny, mode)) << NameOf(experts);
    }
  }
}

TEST(GgufConversion, Q8_0IsClose) {
  TempDir dir;
  Convert(GgufJob(Open(kTiny), dir / "q8", {.experts = DType::kQ8_0, .weights = DType::kQ8_0}));
  const std::vector<float> q8 = Logits(dir / "q8/model.gguf", NumericsMode::kF32),
                           whole = Logits(kTiny, NumericsMode::kF32);
  // A weight is off by at most 1/254 of its block's largest, about 1/440 of it on average: about 1 % of a typical
  // weight.
  EXPECT_LT(MedianDistance(q8, whole), 0.05);
  EXPECT_GT(MedianDistance(q8, whole), 0);
}

TEST(GgufConversion, Mxfp4KeepsCodesAndScales) {
  TempDir dir;
  const std::shared_ptr<const Source> tiny = Open(kTiny);
  Convert(GgufJob(tiny, dir / "g", {}));
  const GgufFile file = *GgufFile::Open(dir / "g/model.gguf");
  const TensorInfo* stacked = file.Find("blk.4.ffn_down_exps.weight");
  ASSERT_NE(stacked, nullptr);
  ASSERT_EQ(stacked->dims, (Dims{16, 256, 4}));
  for (int64_t e = 0; e < 16; ++e) {
    const SourceTensor* w = tiny->Find("layers.4.ffn.experts." + std::to_string(e) + ".w2.weight");
    const auto* pairs = static_cast<const uint8_t*>(w->info->view.raw());
    for (int64_t r = 0; r < 256; ++r) {
      for (int64_t i = 0; i < 128; ++i) {
        const MXFP4& block = stacked->view.Row<MXFP4>(e)[r * 4 + i / 32];
        const uint8_t pair = pairs[r * 64 + i / 2];
        ASSERT_EQ(block.scale, w->scale->info->view.Row<E8M0>(r)[i / 32]);
        ASSERT_EQ(block.Code(int(i % 32)), i % 2 ? pair >> 4 : pair & 15) << e << " " << r << " " << i;
      }
    }
  }
}

TEST(GgufConversion, BackToSafetensorsWithTheSameExperts) {
  TempDir dir;
  const std::shared_ptr<const Source> tiny = Open(kTiny);
  Convert(GgufJob(tiny, dir / "g", {}));
  Convert(UnggufJob(dir / "g/model.gguf", dir / "s", {.shard_bytes = 3'000'000}));
  const std::shared_ptr<const Source> back = Open(dir / "s");
  EXPECT_GT(back->files().files().size(), 2u);
  for (const SourceTensor& t : tiny->tensors()) {
    const SourceTensor* same = back->Find(t.name);
    if (t.is_scale && t.name.find(".ffn.experts.") == std::string::npos) {
      EXPECT_EQ(same, nullptr) << t.name;
      continue;
    }
    ASSERT_NE(same, nullptr) << t.name;
    if (t.info->dtype != same->info->dtype) continue;
    EXPECT_EQ(*t.ReadAll(), *same->ReadAll()) << t.name;
  }
  EXPECT_EQ(back->Find("layers.0.ffn.experts.3.w1.weight")->storage, Storage::kE2M1);
  EXPECT_EQ(back->Find("layers.0.attn.wo_a.weight")->info->dtype, DType::kBF16);
  EXPECT_EQ(Logits(dir / "s", NumericsMode::kF32), Logits(kTiny, NumericsMode::kF32));
}

TEST(GgufConversion, BackToSafetensorsFromEveryType) {
  const std::vector<float> whole = Logits(kTiny, NumericsMode::kF32);
  for (DType type : {DType::kQ8_0, DType::kBF16, DType::kF32}) {
    TempDir dir;
    Convert(GgufJob(Open(kTiny), dir / "g", {.experts = type, .weights = type}));
    Convert(UnggufJob(dir / "g/model.gguf", dir / "s", {}));
    const std::vector<float> back = Logits(dir / "s", NumericsMode::kF32);
    if (type == DType::kQ8_0) {
      EXPECT_LT(MedianDistance(back, whole), 0.05);
      EXPECT_GT(MedianDistance(back, whole), 0);
    } else {
      EXPECT_EQ(back, whole) << NameOf(type);
    }
  }
}

TEST(GgufConversion, TheTableOfTensorsIsComplete) {
  TempDir dir;
  const std::shared_ptr<const Source> tiny = Open(kTiny);
  Convert(GgufJob(tiny, dir / "g", {}));
  const GgufFile file = *GgufFile::Open(dir / "g/model.gguf");
  size_t others = 0;
  for (const SourceTensor& t : tiny->tensors()) {
    if (t.is_scale || t.name.find(".experts.") != std::string::npos) continue;
    ++others;
    EXPECT_NE(file.Find(*GgufTensorName(t.name)), nullptr) << t.name;
  }
  EXPECT_EQ(file.tensors().size(), others + 6 * 3);
  EXPECT_EQ(file.Find("blk.0.ffn_gate_tid2eid.weight")->dtype, DType::kI32);
  EXPECT_EQ(file.Find("output_norm.weight")->dtype, DType::kF32);
  EXPECT_EQ(file.FindValue("tokenizer.huggingface.json")->Text(), Get(kTiny + "/tokenizer.json"));
  EXPECT_EQ(file.FindValue("tokenizer.ggml.tokens")->count(), 2048u);
}

TEST(GgufConversion, Mistakes) {
  TempDir dir;
  Convert(GgufJob(Open(kTiny), dir / "g", {}));
  EXPECT_EQ(ErrorOf(Source::Open(dir / "g/model.gguf", "")),
            dir.path() + "/g/model.gguf: found a GGUF file, expected safetensors");
  std::filesystem::create_directory(dir / "bare");
  for (const char* name : {"config.json", "model-00001-of-00001.safetensors"}) {
    std::filesystem::create_symlink(kTiny + "/" + name, dir / (std::string("bare/") + name));
  }
  EXPECT_EQ(ErrorOf(GgufJob(Open(dir / "bare"), dir / "out", {})),
            dir.path() + "/bare: no tokenizer.json beside the weights");
}

TEST(GgufTokenizer, ListsOfTheTokenizer) {
  const Result<GgufMetadata> m = GgufTokenizerMetadata(
      R"({"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},)"
      R"("added_tokens": [{"id": 3, "content": "<x>", "special": true}, {"id": 1, "content": "b", "special": false}]})",
      5);
  ASSERT_TRUE(m.ok()) << ErrorOf(m);
  const auto at = [&](std::string_view key) {
    for (const auto& [k, v] : *m) {
      if (k == key) return v;
    }
    return GgufScalarOrArray(0u);
  };
  EXPECT_EQ(at("tokenizer.ggml.tokens"), GgufScalarOrArray(std::vector<std::string>{"a", "b", "ab", "<x>", "[PAD4]"}));
  EXPECT_EQ(at("tokenizer.ggml.token_type"), GgufScalarOrArray(std::vector<int32_t>{1, 4, 1, 3, 5}));
  EXPECT_EQ(at("tokenizer.ggml.merges"), GgufScalarOrArray(std::vector<std::string>{"a b"}));
  EXPECT_EQ(ErrorOf(GgufTokenizerMetadata(R"({"model": {"vocab": {"a": 7}, "merges": []}})", 5)),
            "token \"a\": found id 7, expected 0 to 4");
  EXPECT_EQ(ErrorOf(GgufTokenizerMetadata("{}", 5)), "model: found nothing, expected an object");
}

// --- experts in other formats ------------------------------------------------------------------------------------

TEST(ExpertFormats, Int8RunsW8A8InFp8ModeAndDequantisedInTheOthers) {
  TempDir dir;
  Convert(DequantizeJob(Open(kTiny), dir / "bf16", {}));
  Convert(QuantizeJob(Open(dir / "bf16"), dir / "int8", {.experts = Target::kInt8}));
  std::string fp8_plan, bf16_plan;
  const std::vector<float> w8a8 = Logits(dir / "int8", NumericsMode::kFp8, &fp8_plan);
  const std::vector<float> dequantised = Logits(dir / "int8", NumericsMode::kBf16, &bf16_plan);
  EXPECT_NE(fp8_plan.find("quantize_int8/"), std::string::npos);
  EXPECT_EQ(bf16_plan.find("quantize_int8/"), std::string::npos);
  // fp8 mode of the BF16 checkpoint differs in nothing but the experts' products. Rounding to 127 steps of a row's
  // largest value moves a typical value by 1 %.
  const double both = MedianDistance(w8a8, Logits(dir / "bf16", NumericsMode::kFp8));
  const double weights = MedianDistance(dequantised, Logits(dir / "bf16", NumericsMode::kBf16));
  EXPECT_LT(both, 0.05);
  EXPECT_GT(both, 1e-4);
  EXPECT_LT(weights, 0.05);
  EXPECT_GT(weights, 1e-4);
  RecordProperty("median_w8a8", std::to_string(both));
  RecordProperty("median_weights", std::to_string(weights));
}

TEST(ExpertFormats, Fp8ExpertsRepackedFromFp4GiveTheSameLogitsBitForBit) {
  TempDir dir;
  Convert(ShardJob(Open(kTiny), dir / "ranks", {.ranks = 1, .experts = ShardExperts::kE4M3}));
  const std::string path = dir / "ranks/model0-mp1.safetensors";
  EXPECT_EQ(SafetensorsFile::Open(path)->Find("layers.0.ffn.experts.0.w1.weight")->dtype, DType::kE4M3);
  // Products by 448-valued codes under coarser powers of two: the same f32 numbers. In fp8 mode wo_a, which these files
  // hold in BF16, takes an unrounded input in either checkpoint.
  EXPECT_EQ(Logits(dir / "ranks", NumericsMode::kFp8), Logits(kTiny, NumericsMode::kFp8));
}

}  // namespace
}  // namespace vexil::convert
