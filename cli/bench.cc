// vexil bench ops|layer|model: how fast, and how far from what the machine can do.
#include <fmt/format.h>

#include <charconv>
#include <csignal>
#include <fstream>
#include <memory>
#include <utility>

#include "bench/device_layer_bench.h"
#include "bench/layer_bench.h"
#include "bench/model_bench.h"
#include "bench/op_bench.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "io/file.h"

namespace vexil::cli {
namespace {

std::atomic<bool> interrupted{false};

// Ctrl-C ends the measurement after the run in progress; a second one ends the program.
void StopOnInterrupt() {
  std::signal(SIGINT, [](int) {
    interrupted = true;
    std::signal(SIGINT, SIG_DFL);
  });
}

constexpr const char* kStandardOutput = "-";

// Options that every benchmark has.
struct BenchFlags {
  int threads = 0;
  std::string json;

  void Declare(CLI::App& app) {
    app.add_option("--threads", threads, "threads (default: all processors of this process)")
        ->check(CLI::Range(0, 1024));
    app.add_option("--json", json,
                   "write the rows to this file, one JSON object per line; - for standard output, with nothing else");
  }
  // Text for people, unless the rows go to standard output.
  Status Show(const std::string& text) const { return json == kStandardOutput ? Status() : Print(text); }
  int Threads() const { return threads > 0 ? threads : ThreadPool::AvailableProcessors(); }
};

// Nothing for an empty path.
Status WriteText(const std::string& path, const std::string& text) {
  if (path.empty()) return {};
  if (path == kStandardOutput) return Print(text);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return InvalidArgument(fmt::format("{}: cannot write", path));
  return {};
}

// So that a measurement is not lost in the end for a path that cannot be written.
Status CheckWritable(const std::string& path) {
  if (path.empty() || path == kStandardOutput) return {};
  if (std::ofstream(path, std::ios::app)) return {};
  return InvalidArgument(fmt::format("{}: cannot write", path));
}

// Turns 4K into 4096.
std::string ExpandThousands(std::string& text) {
  if (!text.ends_with('K') && !text.ends_with('k')) return "";
  int64_t value = 0;
  const char* const end = text.data() + text.size() - 1;
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  constexpr int64_t kLargest = int64_t(1) << 40;
  if (error != std::errc() || stop != end || value < 0 || value > kLargest) {
    return fmt::format("found {}, expected a number such as 512 or 4K", text);
  }
  text = std::to_string(value * 1024);
  return "";
}

// Rows as JSON lines, written at once at the end.
class JsonLines {
 public:
  void Add(const Json& row) { text_ += row.ToText() + "\n"; }
  Status Write(const std::string& path) const { return WriteText(path, text_); }

 private:
  std::string text_;
};

// Whether there is an op of that name.
std::string IsOp(const std::string& name) {
  std::string names;
#define VX_OP(Op, folder)         \
  if (name == #folder) return ""; \
  names += " " #folder;
#include "ops/ops.inc"
#undef VX_OP
  return fmt::format("found {}, expected one of{}", name, names);
}

std::string Time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.1f} us", seconds * 1e6) : fmt::format("{:.2f} ms", seconds * 1e3);
}

std::string TextOf(MachineLimits& limits) {
  std::string text = fmt::format("read {:.1f} GB/s", limits.ReadBandwidth() * 1e-9);
  for (const PeakLoop& loop : PeakLoops()) {
    if (loop.supported()) text += fmt::format(", {} {:.0f} GFLOP/s", loop.name, limits.Peak(loop) * 1e-9);
  }
  return "limits now: " + text + "\n";
}

struct OpsCommand {
  BenchFlags flags;
  OpBenchOptions options;

  Status Run() {
    VX_TRY(CheckWritable(flags.json));
    StopOnInterrupt();
    ThreadPool threads(flags.Threads());
    MachineLimits limits(threads, options.rotate_bytes);
    JsonLines json;
    VX_TRY(flags.Show(TextOf(limits)));
    VX_TRY(flags.Show(fmt::format("{:<28} {:<64} {:>10} {:>7} {:>8} {:>8} {:>7}  {}\n", "kernel", "case", "time",
                                  "spread", "GB/s", "GFLOP/s", "limit%", "bound by")));
    const auto on_row = [&](const OpBenchRow& r) {
      ClearProgress();
      const double s = r.timing.median_s;
      (void)flags.Show(fmt::format("{:<28} {:<64} {:>10} {:>6.0f}% {:>8.2f} {:>8.1f} {:>6.1f}%  {} {:.0f} G\n",
                                   r.kernel, r.shape, Time(s), r.timing.spread * 100, r.cost.bytes / s * 1e-9,
                                   r.cost.flops / s * 1e-9, r.ratio * 100, r.limit, r.limit_value * 1e-9));
      json.Add(r.ToJson());
    };
    OpBench bench(
        threads, limits, options, on_row, [](const std::string& what) { ShowProgress(what); }, interrupted);
    Status status = bench.RunAll();
    ClearProgress();
    VX_TRY(json.Write(flags.json));
    return status;
  }
};

void AddOps(CLI::App& bench, Command& command) {
  CLI::App* sub = bench.add_subcommand("ops", "each op at DeepSeek-V4-Flash's own sizes");
  auto c = std::make_shared<OpsCommand>();
  c->flags.Declare(*sub);
  sub->add_option("--op", c->options.op, "only this op")->check(IsOp);
  sub->add_option("--kernel", c->options.kernel,
                  "kernels whose id contains this, or \"all\" (default: the one that a model would get)");
  sub->add_option("--case", c->options.shape, "cases whose description contains this");
  sub->add_option("--seconds", c->options.timing.seconds, "seconds of measuring per case")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  sub->callback([c, &command] { command.run = [c] { return c->Run(); }; });
}

struct LayerCommand {
  BenchFlags flags;
  LayerBenchOptions options;
  std::string device = "cpu";

  Status Run() {
    VX_TRY(CheckWritable(flags.json));
    VX_ASSIGN(const DeviceId id, ParseDevice(device));
    StopOnInterrupt();
    JsonLines json;
    double total = 0, total_floor = 0;
    const auto on_row = [&](const LayerBenchRow& r) {
      ClearProgress();
      (void)flags.Show(fmt::format("{}: {} token(s) behind {}: {} (spread {:.0f}%), floors {}, {:.1f}% of the limit\n",
                                   r.name, r.tokens, r.context, Time(r.timing.median_s), r.timing.spread * 100,
                                   Time(r.floor), r.ratio() * 100));
      for (const auto& [kernel, s] : r.kernels) {
        (void)flags.Show(fmt::format("    {:<32} {:>5.1f} calls {:>10}   floor {:>10} {:>6.1f}%\n", kernel, s.calls,
                                     Time(s.seconds), Time(s.floor), 100 * s.floor / s.seconds));
      }
      total += double(r.layers) * r.timing.median_s;
      total_floor += double(r.layers) * r.floor;
      json.Add(r.ToJson());
    };
    Status status = id.kind == DeviceKind::kCpu ? OnCpu(on_row)
                                                : BenchLayersOnDevice(id, options, on_row, ShowProgress, interrupted);
    ClearProgress();
    VX_TRY(std::move(status));
    VX_TRY(flags.Show(fmt::format(
        "43 layers and the head, extrapolated from one of each kind: {} ({:.2f} tokens/s), {:.1f}% of the limit\n",
        Time(total), double(options.tokens) / total, 100 * total_floor / total)));
    return json.Write(flags.json);
  }

 private:
  Status OnCpu(const std::function<void(const LayerBenchRow&)>& on_row) {
    ThreadPool threads(flags.Threads());
    MachineLimits limits(threads, size_t(1) << 30);
    VX_TRY(flags.Show(TextOf(limits)));
    return BenchLayers(threads, limits, options, on_row, ShowProgress, interrupted);
  }
};

void AddLayer(CLI::App& bench, Command& command) {
  CLI::App* sub = bench.add_subcommand("layer", "one whole layer of each kind at V4-Flash's widths, random weights");
  auto c = std::make_shared<LayerCommand>();
  c->flags.Declare(*sub);
  sub->add_option("--device", c->device, "cpu, cuda or cuda:N (see vexil devices)")->capture_default_str();
  sub->add_option("--tokens", c->options.tokens, "tokens of the step")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  sub->add_option("--without", c->options.without, "pass over these kernels, to see what they are worth")
      ->delimiter(',');
  sub->add_option("--context", c->options.context, "tokens before the step")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  sub->add_option("--seconds", c->options.seconds, "seconds of measuring per kind of layer, on the CPU")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  sub->callback([c, &command] { command.run = [c] { return c->Run(); }; });
}

struct ModelCommand {
  ModelFlags flags;
  ModelBenchOptions options;
  bool no_graphs = false;
  int64_t step_tokens = 0;
  std::string csv, json;

  Status Run() {
    VX_TRY(CheckWritable(csv));
    VX_TRY(CheckWritable(json));
    StopOnInterrupt();
    ShowProgress("loading the model ...");
    VX_ASSIGN(const std::unique_ptr<Model> model, flags.LoadModel());
    EngineOptions engine = flags.ToEngineOptions();
    engine.graphs = !no_graphs;
    engine.max_step_tokens = step_tokens;
    JsonLines json_rows;
    std::string csv_rows = "what,batch,context,tokens_per_s,seconds,spread\n";
    bool first = true;
    const auto on_row = [&](const ModelBenchRow& r) {
      ClearProgress();
      if (table()) (void)Print((std::exchange(first, false) ? TableHead(*model) : "") + TableRow(r));
      json_rows.Add(JsonRow(*model, r));
      if (r.skipped.empty()) {
        csv_rows += fmt::format("{},{},{},{:.2f},{:.6g},{:.3f}\n", r.what, r.batch, r.context, r.tokens_per_s(),
                                r.seconds, r.spread);
      }
    };
    Status status = BenchModel(
        *model, engine, options, on_row, [](const std::string& what) { ShowProgress(what); }, interrupted);
    ClearProgress();
    PrintExpertStatistics(*model);
    VX_TRY(json_rows.Write(json));  // of a measurement that was stopped: what there is
    VX_TRY(WriteText(csv, csv_rows));
    return status;
  }

 private:
  bool table() const { return csv != kStandardOutput && json != kStandardOutput; }
  static std::string TableHead(const Model& model) {
    return fmt::format("{} layers of {}, {} mode, {} of weights on {}\n{:<8} {:>6} {:>8} {:>12} {:>12} {:>8}\n",
                       model.config().num_layers, model.config_path(), model.numerics().name,
                       FormatBytes(model.weights().stored_bytes), DeviceName(model), "what", "batch", "context", "time",
                       "tokens/s", "spread");
  }
  static std::string DeviceName(const Model& model) { return model.device() ? model.device()->caps().name : "cpu"; }
  static std::string TableRow(const ModelBenchRow& r) {
    const std::string start = fmt::format("{:<8} {:>6} {:>8} ", r.what, r.batch, r.context);
    if (!r.skipped.empty()) return fmt::format("{} {}\n", start, r.skipped);
    return fmt::format("{}{:>12} {:>12.1f} {:>7.0f}%\n", start, Time(r.seconds), r.tokens_per_s(), r.spread * 100);
  }
  static Json JsonRow(const Model& model, const ModelBenchRow& r) {
    Json row;
    row.Set("what", r.what);
    row.Set("batch", r.batch);
    row.Set("context", r.context);
    if (r.skipped.empty()) {
      row.Set("tokens_per_s", r.tokens_per_s());
      row.Set("seconds", r.seconds);
      row.Set("spread", r.spread);
    } else {
      row.Set("skipped", r.skipped);
    }
    row.Set("layers", model.config().num_layers);
    row.Set("data_format", model.numerics().name);
    row.Set("weight_bytes", model.weights().stored_bytes);
    row.Set("device", DeviceName(model));
    if (model.expert_cache()) row.Set("host_experts", ExpertStatisticsJson(model));
    return row;
  }
};

void AddModel(CLI::App& bench, Command& command) {
  CLI::App* sub = bench.add_subcommand("model", "decode steps and prompts of a whole model, also with random weights");
  auto c = std::make_shared<ModelCommand>();
  c->flags.Declare(*sub);
  c->flags.DeclareSynthetic(*sub);
  const auto add_list = [&](const char* name, std::vector<int64_t>& list, int64_t largest, const char* what) {
    // 4K is 4096. The last check that is added is made first.
    sub->add_option(name, list, what)
        ->delimiter(',')
        ->check(CLI::Range(int64_t(1), largest))
        ->transform(CLI::Validator(ExpandThousands, ""))
        ->capture_default_str();
  };
  add_list("--batch", c->options.batches, 1024, "sequences of a decode step");
  add_list("--context", c->options.contexts, int64_t(1) << 20, "tokens before the first decode step; 4K is 4096");
  add_list("--prompt", c->options.prompts, int64_t(1) << 20, "lengths of prompts, of one sequence");
  sub->add_option("--steps", c->options.steps, "decode steps that are timed")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  sub->add_option("--step-tokens", c->step_tokens, "tokens of a step, at most (default: by the device's free memory)")
      ->check(CLI::Range(1, 1 << 20));
  sub->add_flag("--no-graphs", c->no_graphs, "launch every kernel of a decode step on its own");
  sub->add_option("--csv", c->csv, "write the table to this file; - for standard output, with nothing else");
  sub->add_option("--json", c->json, "the same as JSON, an object per line");
  sub->callback([c, &command] { command.run = [c] { return c->Run(); }; });
}

}  // namespace

void AddBench(CLI::App& app, Command& command) {
  CLI::App* bench = app.add_subcommand("bench", "measure ops, layers and models against this machine's limits");
  bench->require_subcommand(1);
  AddOps(*bench, command);
  AddLayer(*bench, command);
  AddModel(*bench, command);
}

}  // namespace vexil::cli
