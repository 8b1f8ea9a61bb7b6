#include "bench/model_bench.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/timing.h"

namespace vexil {
namespace {

constexpr int64_t kWarmUpSteps = 4;   // a step's graph is captured, and the arena grows
constexpr double kPromptSeconds = 1;  // prompts are repeated for so long, kPromptRuns times at most
constexpr int kPromptRuns = 5;

class ModelBench {
 public:
  ModelBench(const Model& model, Engine& engine, const ModelBenchOptions& options, int64_t step_tokens,
             const std::function<void(const ModelBenchRow&)>& on_row,
             const std::function<void(const std::string&)>& on_progress, const std::atomic<bool>& cancelled)
      : model_(model),
        engine_(engine),
        options_(options),
        step_tokens_(step_tokens),
        on_row_(on_row),
        on_progress_(on_progress),
        cancelled_(cancelled) {}

  // Contexts ascend, so that one sequence is read up to each of them in turn.
  Status Decode() {
    std::vector<int64_t> contexts = options_.contexts;
    std::sort(contexts.begin(), contexts.end());
    VX_ASSIGN(SequenceState source, engine_.pool().NewSequence());
    Status status;
    for (size_t i = 0; i < contexts.size() && status.ok(); ++i) status = DecodeRows(source, contexts[i]);
    engine_.pool().Free(source);
    return status;
  }

  Status Prompts() {
    for (int64_t length : options_.prompts) {
      on_progress_(fmt::format("prompt of {}", length));
      ModelBenchRow row{.what = "prefill", .context = length};
      VX_TRY(OrSkipped(Prompt(row), row));
      on_row_(row);
    }
    return {};
  }

 private:
  Status DecodeRows(SequenceState& source, int64_t context) {
    on_progress_(fmt::format("reading a context of {}", context));
    ModelBenchRow unread{.what = "decode", .context = context};
    VX_TRY(OrSkipped(Read(source, context), unread));
    for (int64_t batch : options_.batches) {
      ModelBenchRow row = unread;
      row.batch = batch;
      if (row.skipped.empty()) {
        on_progress_(fmt::format("decode, batch {}, context {}", batch, context));
        std::vector<SequenceState> states;
        Status status = DecodeRow(source, row, states);
        for (SequenceState& s : states) engine_.pool().Free(s);
        VX_TRY(OrSkipped(std::move(status), row));
      }
      on_row_(row);
    }
    return {};
  }

  Status DecodeRow(const SequenceState& source, ModelBenchRow& row, std::vector<SequenceState>& states) {
    std::vector<int32_t> last;
    for (int64_t i = 0; i < row.batch; ++i) {
      VX_TRY(CheckCancelled());
      VX_ASSIGN(SequenceState s, engine_.pool().Duplicate(source));
      states.push_back(std::move(s));
      last.push_back(Token(source.length + i));
    }
    std::vector<double> seconds;
    for (int64_t i = 0; i < kWarmUpSteps + options_.steps; ++i) {
      VX_TRY(CheckCancelled());
      const double begin = NowSeconds();
      VX_ASSIGN(last, engine_.DecodeStep(states, last));
      if (i >= kWarmUpSteps) seconds.push_back(NowSeconds() - begin);
    }
    Take(Summarize(std::move(seconds)), row);
    return {};
  }

  // After one run that does not count.
  Status Prompt(ModelBenchRow& row) {
    std::vector<double> seconds;
    double total = 0;
    for (int run = 0; run <= kPromptRuns && total < kPromptSeconds; ++run) {
      VX_ASSIGN(SequenceState s, engine_.pool().NewSequence());
      const double begin = NowSeconds();
      Status status = Read(s, row.context);
      const double taken = NowSeconds() - begin;
      engine_.pool().Free(s);
      VX_TRY(std::move(status));
      if (run == 0) continue;
      seconds.push_back(taken);
      total += taken;
    }
    Take(Summarize(std::move(seconds)), row);
    return {};
  }

  // Tokens up to `length`, and the logits of the last one.
  Status Read(SequenceState& s, int64_t length) {
    std::vector<float> logits(size_t(model_.config().vocab_size));
    while (s.length < length) {
      VX_TRY(CheckCancelled());
      std::vector<int32_t> ids(size_t(std::min(step_tokens_, length - s.length)));
      for (size_t i = 0; i < ids.size(); ++i) ids[i] = Token(s.length + int64_t(i));
      const bool ends = s.length + int64_t(ids.size()) == length;
      const SequenceChunk chunk{&s, ids, ends ? LogitRows::kLast : LogitRows::kNone};
      const MutTensorView out(logits.data(), DType::kF32, {1, int64_t(logits.size())});
      VX_TRY(model_.Step(engine_.context(), engine_.pool(), {&chunk, 1}, ends ? out : MutTensorView()));
    }
    return {};
  }

  // Neighbours differ, so that they need different experts.
  int32_t Token(int64_t position) const {
    constexpr int64_t kPrime = 7919;
    return int32_t((position * kPrime + 1) % model_.config().vocab_size);
  }
  Status CheckCancelled() const { return cancelled_.load() ? Cancelled("interrupted") : Status(); }
  // A state that does not fit costs a row, not the rows behind it.
  static Status OrSkipped(Status status, ModelBenchRow& row) {
    if (status.code() != Code::kResourceExhausted) return status;
    row.skipped = status.message();
    return {};
  }
  static void Take(const Timing& t, ModelBenchRow& row) {
    row.seconds = t.median_s;
    row.spread = t.spread;
  }

  const Model& model_;
  Engine& engine_;
  const ModelBenchOptions& options_;
  int64_t step_tokens_;
  const std::function<void(const ModelBenchRow&)>& on_row_;
  const std::function<void(const std::string&)>& on_progress_;
  const std::atomic<bool>& cancelled_;
};

int64_t Longest(const std::vector<int64_t>& list) { return list.empty() ? 0 : *std::ranges::max_element(list); }

}  // namespace

Status BenchModel(const Model& model, EngineOptions engine_options, const ModelBenchOptions& options,
                  const std::function<void(const ModelBenchRow&)>& on_row,
                  const std::function<void(const std::string&)>& on_progress, const std::atomic<bool>& cancelled) {
  const int64_t longest =
      std::max(Longest(options.contexts) + kWarmUpSteps + options.steps, Longest(options.prompts)) + 1;
  engine_options.kept_prompts = 0;
  engine_options.max_sequences = Longest(options.batches) + 1;
  if (engine_options.max_context == 0) engine_options.max_context = longest;
  VX_ASSIGN(const std::unique_ptr<Engine> engine, Engine::Create(model, engine_options));
  if (engine->max_context() < longest) {
    return InvalidArgument(fmt::format(
        "the lists need a context of {} tokens, expected at most {}, which {} allows", longest, engine->max_context(),
        engine->max_context() == engine_options.max_context ? "--max-context" : "the model"));
  }
  ModelBench bench(model, *engine, options, engine->max_step_tokens(), on_row, on_progress, cancelled);
  VX_TRY(bench.Decode());
  return bench.Prompts();
}

}  // namespace vexil
