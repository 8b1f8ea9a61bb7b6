#include "engine/engine.h"

#include <cmath>
#include <utility>

#include "ops/sample/sample.h"
#include "testing/model_runner.h"

namespace vexil {
namespace {

class EngineTest : public testing::Test {
 protected:
  void SetUp() override {
    model_ = LoadModelOrDie("testdata/golden/b/model.bf16.safetensors", {});
    ASSERT_NE(model_, nullptr);
  }
  std::unique_ptr<Engine> NewEngine(EngineOptions options = {}) {
    options.max_context = 512;
    // Steps of more rows have other bits on a GPU (testing/model_runner.h).
    constexpr int64_t kFewRows = 64;
    if (model_->device() && options.max_step_tokens == 0) options.max_step_tokens = kFewRows;
    options.trace = SimulatedDevice::TraceOf(model_->device());
    options.graphs = options.trace == nullptr;
    return *Engine::Create(*model_, options);
  }
  static Request Greedy(Ids prompt, int64_t tokens) {
    Request r;
    r.prompt = std::move(prompt);
    r.sampling.temperature = 0;
    r.max_tokens = tokens;
    return r;
  }
  static Ids TokensOf(const Completion& c) {
    Ids ids;
    for (const SampledToken& t : c.tokens) ids.push_back(t.token);
    return ids;
  }
  std::unique_ptr<Model> model_;
};

TEST_F(EngineTest, ABatchGivesWhatEachRequestGivesAlone) {
  std::vector<Request> requests;
  for (int i = 1; i <= 7; ++i) {
    Ids prompt;
    for (int j = 0; j < i * i * 3; ++j) prompt.push_back((i * 37 + j * 11) % 320);
    requests.push_back(Greedy(prompt, 5 + i));
    requests.back().sampling.temperature = i % 2 ? 0.0f : 1.0f;
    requests.back().sampling.seed = uint64_t(i);
  }
  EngineOptions narrow;
  narrow.max_sequences = 3;     // requests wait for each other
  narrow.max_step_tokens = 16;  // prompts are cut
  const std::vector<Completion> together = *NewEngine(narrow)->Generate(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::vector<Completion> alone = *NewEngine()->Generate({&requests[i], 1});
    EXPECT_EQ(TokensOf(together[i]), TokensOf(alone[0])) << i;
    EXPECT_EQ(together[i].finish, FinishReason::kLength);
    EXPECT_EQ(together[i].prompt_tokens, int64_t(requests[i].prompt.size()));
  }
}

TEST_F(EngineTest, StopsAtAStopIdAndWhenAskedTo) {
  const Request base = Greedy({1, 2, 3, 4}, 12);
  const Ids all = TokensOf((*NewEngine()->Generate({&base, 1}))[0]);
  Request stop = base;
  stop.stop_ids = {all[4]};
  const size_t first = size_t(std::find(all.begin(), all.end(), all[4]) - all.begin());
  const Completion stopped = (*NewEngine()->Generate({&stop, 1}))[0];
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_EQ(TokensOf(stopped), Ids(all.begin(), all.begin() + int64_t(first) + 1));
  EngineEvents events;
  int seen = 0;
  events.on_token = [&](size_t, const SampledToken&) { return ++seen < 3; };
  EXPECT_EQ((*NewEngine()->Generate({&base, 1}, events))[0].tokens.size(), 3u);
}

TEST_F(EngineTest, OneBadRequestFailsAlone) {
  const std::vector<Request> requests = {Greedy({}, 4), Greedy({5}, 4), Greedy({320}, 4), Greedy(Ids(600, 1), 4)};
  const std::vector<Completion> done = *NewEngine()->Generate(requests);
  EXPECT_EQ(done[0].error, "the prompt is empty, expected at least one token");
  EXPECT_EQ(done[1].finish, FinishReason::kLength);
  EXPECT_EQ(done[2].error, "token id 320: expected 0 to 319");
  EXPECT_EQ(done[3].error, "the prompt has 600 tokens, expected fewer than the context of 512");
}

TEST_F(EngineTest, KeptPromptsAreReusedWithTheSameResult) {
  Request first = Greedy(Ids(100, 7), 6);
  first.keep_prompt = true;
  Request second = first;
  second.prompt.back() = 9;  // differs in the last token, as chat prompts do
  second.prompt.insert(second.prompt.end(), {1, 2, 3});
  const std::unique_ptr<Engine> engine = NewEngine();
  ASSERT_TRUE(engine->Generate({&first, 1}).ok());
  const Completion reused = (*engine->Generate({&second, 1}))[0];
  EXPECT_EQ(reused.reused_tokens, 99);
  EXPECT_EQ(TokensOf(reused), TokensOf((*NewEngine()->Generate({&second, 1}))[0]));
}

TEST_F(EngineTest, TheOldestKeptPromptMakesRoom) {
  EngineOptions options;
  options.kept_prompts = 1;
  const std::unique_ptr<Engine> engine = NewEngine(options);
  Request first = Greedy(Ids(60, 7), 3), second = Greedy(Ids(50, 8), 3);
  first.keep_prompt = second.keep_prompt = true;
  const auto reused = [&](const Request& r) { return (*engine->Generate({&r, 1}))[0].reused_tokens; };
  EXPECT_EQ(reused(first), 0);
  EXPECT_EQ(reused(first), 59);
  EXPECT_EQ(reused(second), 0);
  EXPECT_EQ(reused(second), 49);
  EXPECT_EQ(reused(first), 0);
}

TEST_F(EngineTest, DamagedWeightsAreAnErrorOfTheRequest) {
  if (model_->device()) GTEST_SKIP() << "the weights are not in host memory";
  float& weight = const_cast<float&>(*model_->weights().norm.Data<float>());
  const float right = std::exchange(weight, NAN);
  const Request r = Greedy({1, 2, 3}, 4);
  const std::unique_ptr<Engine> engine = NewEngine();
  const Completion c = (*engine->Generate({&r, 1}))[0];
  EXPECT_EQ(c.finish, FinishReason::kError);
  EXPECT_EQ(c.error, "the model's logits are no numbers or infinite; its weights are damaged");
  EXPECT_TRUE(c.tokens.empty());
  weight = right;
  EXPECT_EQ((*engine->Generate({&r, 1}))[0].tokens.size(), 4u);
}

TEST_F(EngineTest, CancelEndsTheRunAndTheNextOneWorks) {
  const std::unique_ptr<Engine> engine = NewEngine();
  const Request r = Greedy({1, 2}, 100);
  EngineEvents events;
  events.on_token = [&](size_t, const SampledToken&) {
    engine->Cancel();
    return true;
  };
  const Completion c = (*engine->Generate({&r, 1}, events))[0];
  EXPECT_EQ(c.finish, FinishReason::kCancelled);
  EXPECT_EQ(c.tokens.size(), 1u);
  EXPECT_EQ((*engine->Generate({&r, 1}))[0].tokens.size(), 100u);
}

TEST_F(EngineTest, TheContextIsALimit) {
  const Request r = Greedy(Ids(500, 3), 100);
  const Completion c = (*NewEngine()->Generate({&r, 1}))[0];
  EXPECT_EQ(c.finish, FinishReason::kContext);
  EXPECT_LE(c.tokens.size(), 12u);
}

// The simulated device has no graphs: capturing a step would be an error.
TEST(EngineWithHostExperts, GivesTheSameTokensWithoutGraphs) {
  const char* path = "testdata/golden/b/model.bf16.safetensors";
  constexpr int64_t kGib = int64_t(1) << 30;
  std::vector<std::vector<SampledToken>> answers[2];
  for (const bool offloaded : {false, true}) {
    const std::unique_ptr<Model> model = *Model::Load(SourcePath(path), {});
    const int64_t all = model->PlacementFor(kGib)->device_bytes;
    ASSERT_TRUE(model->MoveTo(std::make_unique<SimulatedDevice>(2 * kGib, false), offloaded ? all - 1 : all).ok());
    EXPECT_EQ(model->expert_cache() != nullptr, offloaded);
    EngineOptions options;
    options.max_context = 512;
    options.max_sequences = 2;
    options.max_step_tokens = 16;
    options.trace = SimulatedDevice::TraceOf(model->device());
    options.graphs = offloaded;
    const std::unique_ptr<Engine> engine = *Engine::Create(*model, options);
    std::vector<Request> requests(3);
    for (size_t i = 0; i < requests.size(); ++i) {
      for (size_t j = 0; j < 10 + 17 * i; ++j) requests[i].prompt.push_back(int32_t((i * 37 + j * 11) % 320));
      requests[i].sampling.seed = i;
      requests[i].max_tokens = 12;
    }
    const Result<std::vector<Completion>> done = engine->Generate(requests);
    ASSERT_TRUE(done.ok()) << done.status().message();
    for (const Completion& c : *done) answers[offloaded].push_back(c.tokens);
    EXPECT_EQ(offloaded, model->expert_cache() && model->expert_cache()->statistics().misses > 0);
  }
  for (size_t i = 0; i < answers[0].size(); ++i) {
    ASSERT_EQ(answers[0][i].size(), answers[1][i].size());
    for (size_t t = 0; t < answers[0][i].size(); ++t) EXPECT_EQ(answers[0][i][t].token, answers[1][i][t].token) << i;
  }
}

TEST(SamplerTest, Penalties) {
  SamplingParams p;
  p.repetition_penalty = 2;
  p.presence_penalty = 0.5f;
  p.frequency_penalty = 0.25f;
  const Ids prompt = {0, 1};
  Sampler s(p, prompt);
  s.Accept(1);
  s.Accept(2);
  s.Accept(2);
  std::vector<float> logits = {4, -4, 4, 4};
  s.Penalize(logits);
  EXPECT_EQ(logits, (std::vector<float>{2, -8.75f, 1, 4}));
}

TEST(SamplerTest, LogprobsSumToOneAndAreOrdered) {
  const std::vector<float> logits = {0.5f, 2.0f, -1.0f, 2.0f};
  const SampledToken t = Logprobs(logits, 2, 4);
  double sum = 0;
  for (const TokenLogprob& l : t.top) sum += std::exp(double(l.logprob));
  EXPECT_NEAR(sum, 1, 1e-6);
  EXPECT_EQ(t.top[0].token, 1);
  EXPECT_EQ(t.top[1].token, 3);
  EXPECT_FLOAT_EQ(t.logprob, t.top[3].logprob);
}

TEST(SamplerTest, LogprobsAreThoseBeforePenalties) {
  SamplingParams p;
  p.temperature = 0;
  p.presence_penalty = 5;
  p.top_logprobs = 1;
  Sampler s(p, {});
  s.Accept(1);
  Sampler* const pointer = &s;
  std::vector<float> logits = {1, 3, 2};
  const SampledToken unpenalised = Logprobs(logits, 2, 1);
  Arena workspace;
  Context ctx;
  ctx.workspace = &workspace;
  const auto tokens = SampleTokens(ctx, MutTensorView(logits.data(), DType::kF32, {1, 3}), {&pointer, 1});
  ASSERT_TRUE(tokens.ok()) << tokens.status().message();
  EXPECT_EQ((*tokens)[0].token, 2);
  EXPECT_EQ((*tokens)[0].logprob, unpenalised.logprob);
  EXPECT_EQ((*tokens)[0].top[0].token, 1);
}

TEST(SamplerTest, DamagedLogitsHaveNoToken) {
  const float nan = NAN, inf = INFINITY;
  std::vector<float> logits = {0, 1, 2, 0, nan, 2, -inf, -inf, -inf, 0, inf, 1, -inf, 1, 0};
  SamplingParams greedy, random, reported;
  greedy.temperature = 0;
  reported.top_logprobs = 2;
  for (const SamplingParams& p : {greedy, random, reported}) {
    std::vector<Sampler> samplers(5, Sampler(p, {}));
    std::vector<Sampler*> pointers;
    for (Sampler& s : samplers) pointers.push_back(&s);
    Arena workspace;
    Context ctx;
    ctx.workspace = &workspace;
    const auto tokens = SampleTokens(ctx, MutTensorView(logits.data(), DType::kF32, {5, 3}), pointers);
    ASSERT_TRUE(tokens.ok()) << tokens.status().message();
    std::vector<bool> some;
    for (const SampledToken& t : *tokens) some.push_back(t.token != Sample::kNoToken);
    EXPECT_EQ(some, (std::vector<bool>{true, false, false, false, true}));
  }
}

TEST(SamplerTest, BadParametersAreNamed) {
  SamplingParams p;
  p.top_p = 1.5f;
  EXPECT_EQ(p.Check().message(), "top_p: found 1.5, expected a number above 0 and up to 1");
}

}  // namespace
}  // namespace vexil
