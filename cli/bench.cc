// vexil bench ops|layer|model: how fast, and how far from what the machine can do.
#include <fmt/format.h>

#include <csignal>
#include <fstream>
#include <memory>

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

// Options that every benchmark has.
struct BenchFlags {
  int threads = 0;
  std::string json;

  void Declare(CLI::App& app) {
    app.add_option("--threads", threads, "threads (default: all processors of this process)")
        ->check(CLI::Range(0, 1024));
    app.add_option("--json", json, "write the rows to this file, one JSON object per line");
  }
  int Threads() const { return threads > 0 ? threads : ThreadPool::AvailableProcessors(); }
};

// Nothing for an empty path.
Status WriteText(const std::string& path, const std::string& text) {
  if (path.empty()) return {};
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return InvalidArgument(fmt::format("{}: cannot write", path));
  return {};
}

// Rows as JSON lines, written at once at the end.
class JsonLines {
 public:
  void Add(const Json& row) { text_ += row.ToText() + "\n"; }
  Status Write(const std::string& path) const { return WriteText(path, text_); }

 private:
  std::string text_;
};

std::string Time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.1f} us", seconds * 1e6) : fmt::format("{:.2f} ms", seconds * 1e3);
}

Status PrintLimits(MachineLimits& limits) {
  std::string text = fmt::format("read {:.1f} GB/s", limits.ReadBandwidth() * 1e-9);
  for (const PeakLoop& loop : PeakLoops()) {
    if (loop.supported()) text += fmt::format(", {} {:.0f} GFLOP/s", loop.name, limits.Peak(loop) * 1e-9);
  }
  return Print("limits now: " + text + "\n");
}

struct OpsCommand {
  BenchFlags flags;
  OpBenchOptions options;

  Status Run() {
    StopOnInterrupt();
    ThreadPool threads(flags.Threads());
    MachineLimits limits(threads, options.rotate_bytes);
    JsonLines json;
    VX_TRY(PrintLimits(limits));
    VX_TRY(Print(fmt::format("{:<28} {:<64} {:>10} {:>7} {:>8} {:>8} {:>7}  {}\n", "kernel", "case", "time", "spread",
                             "GB/s", "GFLOP/s", "limit%", "bound by")));
    const auto on_row = [&](const OpBenchRow& r) {
      ClearProgress();
      const double s = r.timing.median_s;
      (void)Print(fmt::format("{:<28} {:<64} {:>10} {:>6.0f}% {:>8.2f} {:>8.1f} {:>6.1f}%  {} {:.0f} G\n", r.kernel,
                              r.shape, Time(s), r.timing.spread * 100, r.cost.bytes / s * 1e-9, r.cost.flops / s * 1e-9,
                              r.ratio * 100, r.limit, r.limit_value * 1e-9));
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
  sub->add_option("--op", c->options.op, "only this op");
  sub->add_option("--kernel", c->options.kernel,
                  "kernels whose id contains this, or \"all\" (default: the one that a model would get)");
  sub->add_option("--case", c->options.shape, "cases whose description contains this");
  sub->add_option("--seconds", c->options.timing.seconds, "of measuring per case")->capture_default_str();
  sub->callback([c, &command] { command.run = [c] { return c->Run(); }; });
}

struct LayerCommand {
  BenchFlags flags;
  LayerBenchOptions options;

  Status Run() {
    StopOnInterrupt();
    ThreadPool threads(flags.Threads());
    MachineLimits limits(threads, size_t(1) << 30);
    JsonLines json;
    double total = 0, total_floor = 0;
    VX_TRY(PrintLimits(limits));
    const auto on_row = [&](const LayerBenchRow& r) {
      ClearProgress();
      (void)Print(fmt::format("{}: {} token(s) behind {}: {} (spread {:.0f}%), floors {}, {:.1f}% of the limit\n",
                              r.name, r.tokens, r.context, Time(r.timing.median_s), r.timing.spread * 100,
                              Time(r.floor), r.ratio() * 100));
      for (const auto& [kernel, s] : r.kernels) {
        (void)Print(fmt::format("    {:<32} {:>5.1f} calls {:>10} floor {:>10} {:>6.1f}%\n", kernel, s.calls,
                                Time(s.seconds), Time(s.floor), 100 * s.floor / s.seconds));
      }
      total += double(r.layers) * r.timing.median_s;
      total_floor += double(r.layers) * r.floor;
      json.Add(r.ToJson());
    };
    Status status = BenchLayers(
        threads, limits, options, on_row, [](const std::string& what) { ShowProgress(what); }, interrupted);
    ClearProgress();
    VX_TRY(std::move(status));
    VX_TRY(Print(fmt::format(
        "43 layers and the head, extrapolated from one of each kind: {} ({:.2f} tokens/s), {:.1f}% of the limit\n",
        Time(total), double(options.tokens) / total, 100 * total_floor / total)));
    return json.Write(flags.json);
  }
};

void AddLayer(CLI::App& bench, Command& command) {
  CLI::App* sub = bench.add_subcommand("layer", "one whole layer of each kind at V4-Flash's widths, random weights");
  auto c = std::make_shared<LayerCommand>();
  c->flags.Declare(*sub);
  sub->add_option("--tokens", c->options.tokens, "of a step")->check(CLI::Range(1, 4096))->capture_default_str();
  sub->add_option("--context", c->options.context, "tokens before the step")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  sub->add_option("--seconds", c->options.seconds, "of measuring per kind")->capture_default_str();
  sub->callback([c, &command] { command.run = [c] { return c->Run(); }; });
}

struct ModelCommand {
  ModelFlags flags;
  ModelBenchOptions options;
  std::string csv;

  Status Run() {
    StopOnInterrupt();
    ShowProgress("loading the model ...");
    VX_ASSIGN(const std::unique_ptr<Model> model, flags.LoadModel());
    const EngineOptions engine = flags.ToEngineOptions();
    ThreadPool threads(engine.threads > 0 ? engine.threads : ThreadPool::AvailableProcessors(),
                       {.pin = engine.pin_threads});
    std::string rows = "batch,context,prefill_tokens_per_s,decode_tokens_per_s,decode_spread\n";
    VX_TRY(Print(fmt::format("{:>6} {:>8} {:>14} {:>14} {:>8}\n", "batch", "context", "prefill tok/s", "decode tok/s",
                             "spread")));
    const auto on_row = [&](const ModelBenchRow& r) {
      ClearProgress();
      (void)Print(fmt::format("{:>6} {:>8} {:>14.1f} {:>14.1f} {:>7.0f}%\n", r.batch, r.context, r.prefill_tokens_per_s,
                              r.decode_tokens_per_s, r.decode_spread * 100));
      rows += fmt::format("{},{},{:.2f},{:.2f},{:.3f}\n", r.batch, r.context, r.prefill_tokens_per_s,
                          r.decode_tokens_per_s, r.decode_spread);
    };
    Status status = BenchModel(
        *model, threads, engine.kernels, options, on_row, [](const std::string& what) { ShowProgress(what); },
        interrupted);
    ClearProgress();
    VX_TRY(std::move(status));
    return WriteText(csv, rows);
  }
};

void AddModel(CLI::App& bench, Command& command) {
  CLI::App* sub = bench.add_subcommand("model", "prefill and decode of a checkpoint by batch size and context");
  auto c = std::make_shared<ModelCommand>();
  c->flags.Declare(*sub);
  sub->add_option("--batch", c->options.batches, "batch sizes")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  sub->add_option("--context", c->options.contexts, "tokens of each prompt")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--decode", c->options.decode_tokens, "decode steps")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  sub->add_option("--csv", c->csv, "write the table to this file");
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
