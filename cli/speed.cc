// vexil speed: how fast a model decodes and reads prompts where it is, whatever its weights.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "cli/commands.h"
#include "cli/common.h"

namespace vexil::cli {
namespace {

struct Flags {
  ModelFlags model;
  std::vector<int64_t> batches = {1}, contexts = {512}, prompts;
  int64_t steps = 32;
  bool json = false, no_graphs = false;
};

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Row {
  const char* what;
  int64_t batch, context;
  double seconds;  // of a decode step, or of a prompt
  int64_t tokens;  // in that time
};

class Measurement {
 public:
  Measurement(const Flags& f, const Model& model, Engine& engine) : f_(f), model_(model), engine_(engine) {}

  // The median step, sampling included. Sequences begin with `context` tokens that nobody computed: their state is
  // zeros, which cost as much as any others.
  Result<Row> Decode(int64_t batch, int64_t context) {
    VX_ASSIGN(std::vector<SequenceState> states, NewStates(batch, context));
    std::vector<double> times;
    std::vector<int32_t> last = Ids(batch);
    for (int64_t i = 0; i < f_.steps + kWarmUp; ++i) {
      const double begin = Now();
      VX_ASSIGN(last, engine_.DecodeStep(states, last));
      if (i >= kWarmUp) times.push_back(Now() - begin);
    }
    for (SequenceState& s : states) engine_.pool().Free(s);
    std::nth_element(times.begin(), times.begin() + int64_t(times.size() / 2), times.end());
    return Row{"decode", batch, context, times[times.size() / 2], batch};
  }

  // One prompt in one step, the second time.
  Result<Row> Prompt(int64_t length) {
    const std::vector<int32_t> ids = Ids(length);
    double seconds = 0;
    for (int i = 0; i < 2; ++i) {
      VX_ASSIGN(std::vector<SequenceState> states, NewStates(1, 0));
      std::vector<float> logits(size_t(model_.config().vocab_size));
      const SequenceChunk chunk{&states[0], ids, LogitRows::kLast};
      const double begin = Now();
      VX_TRY(model_.Step(engine_.context(), engine_.pool(), {&chunk, 1},
                         MutTensorView(logits.data(), DType::kF32, {1, model_.config().vocab_size})));
      seconds = Now() - begin;
      engine_.pool().Free(states[0]);
    }
    return Row{"prompt", 1, length, seconds, length};
  }

 private:
  static constexpr int64_t kWarmUp = 4;

  // Tokens that differ, so that they need different experts.
  std::vector<int32_t> Ids(int64_t count) const {
    constexpr int64_t kPrime = 7919;
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i) ids.push_back(int32_t((i * kPrime + 1) % model_.config().vocab_size));
    return ids;
  }

  Result<std::vector<SequenceState>> NewStates(int64_t count, int64_t length) {
    std::vector<SequenceState> states;
    for (int64_t i = 0; i < count; ++i) {
      VX_ASSIGN(SequenceState s, engine_.pool().NewSequence());
      states.push_back(std::move(s));
      VX_TRY(engine_.pool().Reserve(states.back(), length));
      engine_.pool().Advance(states.back(), length);
    }
    return states;
  }

  const Flags& f_;
  const Model& model_;
  Engine& engine_;
};

Status Report(const Flags& f, const Model& model, const std::vector<Row>& rows) {
  Json::Array list;
  std::string text = fmt::format(
      "{} of {} layers, {} mode, {:.2f} GiB of weights on {}\n{:<8} {:>6} {:>8} {:>12} {:>12}\n",
      model.config().num_layers, model.config_path(), model.numerics().name,
      double(model.weights().stored_bytes) / double(1 << 30), model.device() ? model.device()->caps().name : "the CPU",
      "what", "batch", "context", "ms", "tokens/s");
  for (const Row& r : rows) {
    text += fmt::format("{:<8} {:>6} {:>8} {:>12.3f} {:>12.1f}\n", r.what, r.batch, r.context, r.seconds * 1e3,
                        double(r.tokens) / r.seconds);
    Json v;
    v.Set("what", r.what);
    v.Set("batch", r.batch);
    v.Set("context", r.context);
    v.Set("seconds", r.seconds);
    v.Set("tokens_per_second", double(r.tokens) / r.seconds);
    list.push_back(v);
  }
  Json out;
  out.Set("layers", model.config().num_layers);
  out.Set("data_format", model.numerics().name);
  out.Set("weight_bytes", model.weights().stored_bytes);
  out.Set("device", model.device() ? model.device()->caps().name : "cpu");
  out.Set("rows", Json(std::move(list)));
  return Print(f.json ? out.ToText(1) + "\n" : text);
}

Status Speed(const Flags& f) {
  VX_ASSIGN(const std::unique_ptr<Model> model, f.model.LoadModel());
  EngineOptions options = f.model.ToEngineOptions();
  options.kept_prompts = 0;
  options.graphs = !f.no_graphs;
  options.max_sequences = std::max<int64_t>(1, *std::max_element(f.batches.begin(), f.batches.end()));
  int64_t longest = *std::max_element(f.contexts.begin(), f.contexts.end()) + f.steps + 64;
  for (int64_t p : f.prompts) longest = std::max(longest, p + 1);
  if (options.max_context == 0) options.max_context = longest;
  VX_ASSIGN(const std::unique_ptr<Engine> engine, Engine::Create(*model, options));
  Measurement measurement(f, *model, *engine);
  std::vector<Row> rows;
  for (int64_t context : f.contexts) {
    for (int64_t batch : f.batches) {
      VX_ASSIGN(const Row row, measurement.Decode(batch, context));
      rows.push_back(row);
    }
  }
  for (int64_t length : f.prompts) {
    VX_ASSIGN(const Row row, measurement.Prompt(length));
    rows.push_back(row);
  }
  return Report(f, *model, rows);
}

}  // namespace

void AddSpeed(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("speed", "time of decode steps and prompts of a model");
  auto f = std::make_shared<Flags>();
  f->model.Declare(*sub);
  f->model.DeclareSynthetic(*sub);
  sub->add_option("--batch", f->batches, "sequences of a decode step, several by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  sub->add_option("--context", f->contexts, "tokens before the first decode step, several by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--prompt", f->prompts, "lengths of prompts, several by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20));
  sub->add_option("--steps", f->steps, "decode steps that are timed")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  sub->add_flag("--no-graphs", f->no_graphs, "launch every kernel of a decode step on its own");
  sub->add_flag("--json", f->json, "as JSON");
  sub->callback([f, &command] { command.run = [f] { return Speed(*f); }; });
}

}  // namespace vexil::cli
