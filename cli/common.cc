#include "cli/common.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "io/file.h"

namespace vexil::cli {
namespace {

// models/tiny beside the program: in the source tree of its build folder, or in an install tree.
Result<std::string> TinyModel() {
  std::error_code ec;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ec).parent_path();
  for (const std::filesystem::path& p : {program / "../share/vexil/models/tiny", program / "../../models/tiny",
                                         std::filesystem::path(VEXIL_SOURCE_DIR) / "models/tiny"}) {
    if (IsDirectory(p.string())) return p.lexically_normal().string();
  }
  return NotFound("models/tiny is neither in the source nor in the install tree; name a checkpoint with --ckpt-path");
}

std::atomic<Engine*> interrupt_target{nullptr};
std::atomic<bool> was_interrupted{false};

void OnInterrupt(int) {
  if (was_interrupted.exchange(true)) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
    return;
  }
  if (Engine* e = interrupt_target.load()) e->Cancel();
}

}  // namespace

void ModelFlags::Declare(CLI::App& app) {
  app.add_option("--ckpt-path", ckpt_path, "checkpoint directory or safetensors file (default: models/tiny)");
  app.add_option("--config", config, "configuration file (default: config.json beside the weights)");
  app.add_option("--data-format", data_format, "what is computed (default: fp8 for fp8/fp4 checkpoints, else bf16)")
      ->check(CLI::IsMember({"fp8", "bf16", "f32"}));
  app.add_option("--threads", threads, "threads (default: all processors of this process)")->check(CLI::Range(0, 1024));
  app.add_option("--max-context", max_context, "tokens of one sequence (default: what the model allows)")
      ->check(CLI::Range(int64_t(0), int64_t(1) << 20));
  app.add_option("--kernels", kernels, "best, or plain: the readable kernels only")->check(CLI::IsMember({"best", "plain"}));
  app.add_flag("--unclamped-shared-expert", unclamped_shared_expert, "do not clamp the shared expert, as the first release");
}

Result<std::string> ModelFlags::CheckpointPath() const {
  if (ckpt_path.empty()) return TinyModel();
  return ckpt_path;
}

Result<std::unique_ptr<Model>> ModelFlags::LoadModel() const {
  VX_ASSIGN(const std::string path, CheckpointPath());
  ModelOptions options;
  if (!data_format.empty()) options.numerics = NumericsFromName(data_format);
  if (!config.empty()) options.config_path = config;
  options.clamp_shared_expert = !unclamped_shared_expert;
  return Model::Load(path, options);
}

Result<std::unique_ptr<Tokenizer>> ModelFlags::LoadTokenizer() const {
  VX_ASSIGN(const std::string path, CheckpointPath());
  const std::string folder = IsDirectory(path) ? path : std::filesystem::path(path).parent_path().string();
  return Tokenizer::FromFile(JoinPath(folder.empty() ? "." : folder, "tokenizer.json"));
}

EngineOptions ModelFlags::ToEngineOptions() const {
  EngineOptions o;
  o.threads = threads;
  o.max_context = max_context;
  o.kernels = kernels == "plain" ? KernelChoice::kPlain : KernelChoice::kBest;
  return o;
}

Result<LoadedModel> LoadAll(const ModelFlags& flags) {
  ShowProgress("loading the model ...");
  LoadedModel l;
  VX_ASSIGN(l.model, flags.LoadModel());
  VX_ASSIGN(l.tokenizer, flags.LoadTokenizer());
  if (l.tokenizer->vocab_size() > l.model->config().vocab_size) {
    return InvalidArgument(fmt::format("tokenizer.json: found {} tokens, expected at most the model's vocab_size {}",
                                       l.tokenizer->vocab_size(), l.model->config().vocab_size));
  }
  VX_ASSIGN(l.engine, Engine::Create(*l.model, flags.ToEngineOptions()));
  ClearProgress();
  return l;
}

void DeclareSampling(CLI::App& app, SamplingParams& s) {
  app.add_option("--temperature", s.temperature, "0: always the likeliest token")->capture_default_str();
  app.add_option("--top-p", s.top_p, "keep the likeliest tokens up to this probability")->capture_default_str();
  app.add_option("--top-k", s.top_k, "keep this many tokens; 0: all")->capture_default_str();
  app.add_option("--min-p", s.min_p, "drop tokens below this share of the likeliest")->capture_default_str();
  app.add_option("--repetition-penalty", s.repetition_penalty)->capture_default_str();
  app.add_option("--presence-penalty", s.presence_penalty)->capture_default_str();
  app.add_option("--frequency-penalty", s.frequency_penalty)->capture_default_str();
  app.add_option("--seed", s.seed, "the same seed gives the same text")->capture_default_str();
}

CLI::Option* DeclareThinking(CLI::App& app, std::string& thinking) {
  return app.add_option("--thinking", thinking, "chat: answer at once; thinking: reason first; max: reason longest")
      ->check(CLI::IsMember({"chat", "thinking", "max"}))
      ->capture_default_str();
}

Result<std::string> ReadInput(const std::string& path) {
  constexpr int64_t kMaxBytes = int64_t(1) << 30;
  return ReadWholeFile(path == "-" ? "/dev/stdin" : path, kMaxBytes);
}

Result<Json> ReadChatJson(const std::string& text, const std::string& name) {
  Json::ParseOptions options;
  options.allow_duplicates = true;
  options.allow_nan = true;
  Result<Json> json = Json::Parse(text, options);
  if (!json.ok()) return std::move(json).TakeError().Prefix(name);
  return json;
}

Status Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return Unavailable("standard output: cannot write");
  }
  return {};
}

void ShowProgress(const std::string& line) {
  if (isatty(STDERR_FILENO)) fmt::print(stderr, "\r\033[K{}", line);
}

void ClearProgress() { ShowProgress(""); }

InterruptCancels::InterruptCancels(Engine& engine) {
  was_interrupted = false;
  interrupt_target = &engine;
  std::signal(SIGINT, OnInterrupt);
}

InterruptCancels::~InterruptCancels() {
  std::signal(SIGINT, SIG_DFL);
  interrupt_target = nullptr;
}

bool InterruptCancels::interrupted() { return was_interrupted; }

}  // namespace vexil::cli
