// What an accelerator must not change: a replayed decode step gives the bits of one that is launched kernel by kernel,
// and tokens sampled there are those that the host samples. Skipped without a device.
#include <cstring>

#include "engine/engine.h"
#include "testing/model_runner.h"

namespace vexil {
namespace {

class OnDevice : public testing::TestWithParam<NumericsMode> {
 protected:
  void SetUp() override {
    if (const auto device = OpenDevice({DeviceKind::kCuda, 0}); !device.ok()) GTEST_SKIP() << device.status().message();
    ModelOptions options;
    options.numerics = GetParam();
    options.device = {DeviceKind::kCuda, 0};
    Result<std::unique_ptr<Model>> model = Model::Load(SourcePath("testdata/golden/a/model.bf16.safetensors"), options);
    ASSERT_TRUE(model.ok()) << model.status().message();
    model_ = *std::move(model);
  }
  // Answers to four prompts of different lengths, up to and beyond a page and a block of 128.
  std::vector<Completion> Answers(bool graphs, const SamplingParams& sampling) {
    EngineOptions options;
    options.graphs = graphs;
    options.max_context = 1200;
    const std::unique_ptr<Engine> engine = *Engine::Create(*model_, options);
    std::vector<Request> requests;
    for (int64_t length : {1, 100, 250, 700}) {
      Request r;
      for (int64_t i = 0; i < length; ++i) r.prompt.push_back(int32_t((i * 37 + length) % model_->config().vocab_size));
      r.sampling = sampling;
      r.sampling.seed = uint64_t(length);
      r.max_tokens = 40;
      requests.push_back(r);
    }
    return *engine->Generate(requests);
  }
  static void ExpectSameTokens(const std::vector<Completion>& a, const std::vector<Completion>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].error, "");
      ASSERT_EQ(a[i].tokens.size(), b[i].tokens.size());
      for (size_t t = 0; t < a[i].tokens.size(); ++t)
        EXPECT_EQ(a[i].tokens[t].token, b[i].tokens[t].token) << "request " << i << " token " << t;
    }
  }
  std::unique_ptr<Model> model_;
};

TEST_P(OnDevice, AReplayedStepGivesTheSameBits) {
  Runner eager(*model_, 1);
  Arena workspace(model_->device());
  Context ctx;
  ctx.device = model_->device()->caps().id;
  ctx.accelerator = model_->device();
  ctx.stream = model_->device()->stream();
  ctx.workspace = &workspace;
  const std::unique_ptr<StatePool> pool =
      *StatePool::Create(StateLayout::For(model_->config(), model_->numerics()), 8, 64, model_->device());
  DecodeGraphs graphs(*model_, ctx, *pool);
  std::vector<SequenceState> theirs, ours;
  for (int i = 0; i < 3; ++i) {
    theirs.push_back(eager.NewSequence());
    ours.push_back(*pool->NewSequence());
  }
  for (int32_t step = 0; step < 300; ++step) {
    std::vector<Ids> ids;
    std::vector<SequenceChunk> chunks;
    for (int32_t i = 0; i < 3; ++i) ids.push_back({(step * 11 + i * 5) % int32_t(model_->config().vocab_size)});
    for (size_t i = 0; i < 3; ++i) chunks.push_back({&ours[i], ids[i], LogitRows::kLast});
    const Rows want = eager.Step({&theirs[0], &theirs[1], &theirs[2]}, ids);
    const Result<MutTensorView> logits = graphs.Step(chunks);
    ASSERT_TRUE(logits.ok()) << logits.status().message();
    Rows got(want.size());
    ASSERT_TRUE(ctx.accelerator->CopyOut(got.data(), logits->raw(), got.size() * sizeof(float), ctx.stream).ok());
    ASSERT_TRUE(ctx.accelerator->Synchronize(ctx.stream).ok());
    ASSERT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << "step " << step;
  }
}

TEST_P(OnDevice, GraphsDoNotChangeTheText) {
  SamplingParams greedy;
  greedy.temperature = 0;
  ExpectSameTokens(Answers(true, greedy), Answers(false, greedy));
}

TEST_P(OnDevice, SamplingThereIsSamplingHere) {
  SamplingParams sampling;
  sampling.temperature = 0.8f;
  sampling.top_p = 0.9f;
  sampling.top_k = 40;
  SamplingParams on_host = sampling;
  on_host.top_logprobs = 1;  // which brings the logits to the host
  ExpectSameTokens(Answers(true, sampling), Answers(true, on_host));
}

TEST_P(OnDevice, ExpertsInHostMemoryDoNotChangeTheText) {
  SamplingParams greedy;
  greedy.temperature = 0;
  const std::vector<Completion> want = Answers(false, greedy);
  const WeightSizes sizes = model_->weights().Sizes();
  ModelOptions options;
  options.numerics = GetParam();
  options.device = {DeviceKind::kCuda, 0};
  options.device_budget = sizes.fixed + 20 * sizes.expert_bytes[0];
  Result<std::unique_ptr<Model>> model = Model::Load(SourcePath("testdata/golden/a/model.bf16.safetensors"), options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  model_ = *std::move(model);
  ASSERT_NE(model_->expert_cache(), nullptr);
  ExpectSameTokens(Answers(true, greedy), want);
  EXPECT_GT(model_->expert_cache()->statistics().misses, 0);
}

TEST(Device, AMissingOneIsAnErrorThatSaysSo) {
  const auto device = OpenDevice({DeviceKind::kCuda, 99});
  ASSERT_FALSE(device.ok());
  EXPECT_NE(std::string(device.status().message()).find("cuda:99"), std::string::npos) << device.status().message();
}

TEST(Device, OutOfMemoryIsAnErrorThatSaysHowMuch) {
  const auto device = OpenDevice({DeviceKind::kCuda, 0});
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  const Result<void*> memory = (*device)->Allocate(size_t(1) << 50);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.status().code(), Code::kResourceExhausted);
  EXPECT_NE(std::string(memory.status().message()).find("free"), std::string::npos) << memory.status().message();
  EXPECT_TRUE((*device)->Allocate(1024).ok()) << "the device works on";
}

INSTANTIATE_TEST_SUITE_P(, OnDevice, testing::Values(NumericsMode::kFp8, NumericsMode::kBf16, NumericsMode::kF32),
                         [](const auto& p) { return std::string(NumericsOf(p.param).name); });

}  // namespace
}  // namespace vexil
