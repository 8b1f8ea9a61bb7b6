#include "cli/common.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "io/file.h"
#include "io/gguf.h"

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

// The library's own conversion takes "-1" and numbers beyond 64 bits.
std::string IsSeed(const std::string& text) {
  uint64_t seed = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, seed);
  return error == std::errc() && stop == end ? "" : fmt::format("Value {} not in range 0 to 2^64 - 1", text);
}

// The GGUF file of a directory that holds one and no safetensors file; otherwise the directory.
Result<std::string> OnlyGgufIn(const std::string& directory) {
  VX_ASSIGN(const std::vector<std::string> names, ListDirectory(directory));
  std::string gguf;
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors")) return directory;
    if (!IsGgufPath(name)) continue;
    if (!gguf.empty()) return directory;
    gguf = name;
  }
  return gguf.empty() ? directory : JoinPath(directory, gguf);
}

// The tokenizer.json inside a GGUF file, or else the one beside it.
Result<std::unique_ptr<Tokenizer>> GgufTokenizer(const std::string& path) {
  VX_ASSIGN(const GgufFile file, GgufFile::Open(path));
  const GgufValue* value = file.FindValue(kGgufTokenizerJson);
  if (value != nullptr && value->Text()) {
    Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromJson(*value->Text());
    if (!tokenizer.ok())
      return std::move(tokenizer).TakeError().Prefix(fmt::format("{}: {}", path, kGgufTokenizerJson));
    return tokenizer;
  }
  const std::string beside = (std::filesystem::path(path).parent_path() / "tokenizer.json").string();
  if (FileExists(beside)) return Tokenizer::FromFile(beside);
  return NotFound(fmt::format("{}: found neither metadata {} nor {}", path, kGgufTokenizerJson, beside));
}

int64_t BytesOfGib(double gib) { return int64_t(gib * double(int64_t(1) << 30)); }

// Memory that is short after --gpu-memory has asked for it is the user's matter.
Status BlameGpuMemory(Status status) {
  if (status.code() != Code::kResourceExhausted) return status;
  return InvalidArgument(fmt::format("--gpu-memory: {}", status.message()));
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

void ModelFlags::DeclareModel(CLI::App& app) {
  app.add_option("--ckpt-path", ckpt_path, "checkpoint directory, safetensors or GGUF file (default: models/tiny)");
  app.add_option("--config", config,
                 "configuration file (default: config.json beside the weights; a GGUF file has its own)");
  app.add_option("--data-format", data_format, "what is computed (default: fp8 for fp8/fp4 checkpoints, else bf16)")
      ->check(CLI::IsMember({"fp8", "bf16", "f32"}));
  app.add_option("--device", device, "cpu, cuda or cuda:N: where the model runs (see vexil devices)")
      ->capture_default_str();
  app.add_option("--gpu-memory", gpu_memory,
                 "GiB of the device's memory for weights; experts beyond it stay in host memory (default: what is free "
                 "but a sixteenth)")
      ->check(CLI::Range(0.001, 1e5));
  app.add_flag("--unclamped-shared-expert", unclamped_shared_expert,
               "do not clamp the shared expert, as the first release");
}

void ModelFlags::DeclareKernels(CLI::App& app) {
  app.add_option("--kernels", kernels, "best, or plain: the readable kernels only")
      ->check(CLI::IsMember({"best", "plain"}))
      ->capture_default_str();
  app.add_option("--cpu-isa", cpu_isa, "instructions that kernels may use at most (default: all that this machine has)")
      ->check(CLI::IsMember(CpuIsaNames()));
}

void ModelFlags::Declare(CLI::App& app) {
  DeclareModel(app);
  app.add_option("--threads", threads, "threads (default: all processors of this process)")->check(CLI::Range(0, 1024));
  app.add_option("--max-context", max_context, "tokens of one sequence (default: what the model allows)")
      ->check(CLI::Range(int64_t(0), int64_t(1) << 20));
  app.add_flag("--pin", pin, "bind each thread to a processor of its own, for machines that nobody shares");
  DeclareKernels(app);
}

void ModelFlags::DeclareSynthetic(CLI::App& app) {
  CLI::Option* seed =
      app.add_option("--synthetic", synthetic, "a seed: random weights, made on the device, for the model of --config")
          ->check(CLI::Range(int64_t(0), int64_t(1) << 62));
  app.add_option("--layers", layers, "with --synthetic: only the first layers of the model")
      ->needs(seed)
      ->check(CLI::Range(int64_t(0), int64_t(1000)));
}

Result<std::string> ModelFlags::CheckpointPath() const {
  if (ckpt_path.empty()) return TinyModel();
  if (IsDirectory(ckpt_path)) return OnlyGgufIn(ckpt_path);
  return ckpt_path;
}

Result<std::unique_ptr<Model>> ModelFlags::LoadModel() const {
  ModelOptions options;
  VX_ASSIGN(options.device, ParseDevice(device));
  if (gpu_memory > 0) {
    if (options.device.kind == DeviceKind::kCpu) {
      return InvalidArgument(fmt::format("--gpu-memory: found with --device {}, expected an accelerator", device));
    }
    options.device_budget = BytesOfGib(gpu_memory);
  }
  options.progress = [](const std::string& what) { ShowProgress("loading the model: " + what); };
  if (!data_format.empty()) options.numerics = NumericsFromName(data_format);
  if (!config.empty()) options.config_path = config;
  options.clamp_shared_expert = !unclamped_shared_expert;
  options.layers = layers;
  Result<std::unique_ptr<Model>> model = nullptr;
  if (synthetic >= 0) {
    model = Model::Synthetic(uint64_t(synthetic), options);
  } else {
    VX_ASSIGN(const std::string path, CheckpointPath());
    model = Model::Load(path, options);
  }
  ClearProgress();
  if (!model.ok()) return options.device_budget ? BlameGpuMemory(std::move(model).TakeError()) : std::move(model);
  if ((*model)->expert_cache()) PrintError((*model)->weights().placement().Summary() + "\n");
  return model;
}

Result<std::unique_ptr<Model>> ModelFlags::LoadModelToLook() const {
  VX_ASSIGN([[maybe_unused]] const DeviceId id, ParseDevice(device));
  ModelFlags flags = *this;
  flags.device = "cpu";
  flags.gpu_memory = 0;
  return flags.LoadModel();
}

Result<std::unique_ptr<Model>> ModelFlags::LoadModelToPlan() const {
  if (config.empty() || !ckpt_path.empty()) return LoadModelToLook();
  ModelOptions options;
  options.config_path = config;
  if (!data_format.empty()) options.numerics = NumericsFromName(data_format);
  return Model::Outline(options);
}

Result<std::optional<ExpertPlacement>> ModelFlags::Placement(const Model& model) const {
  if (gpu_memory <= 0) return std::optional<ExpertPlacement>();
  Result<ExpertPlacement> placement = model.PlacementFor(BytesOfGib(gpu_memory));
  if (!placement.ok()) return BlameGpuMemory(std::move(placement).TakeError());
  return std::optional(*std::move(placement));
}

Result<std::unique_ptr<Tokenizer>> ModelFlags::LoadTokenizer() const {
  VX_ASSIGN(const std::string path, CheckpointPath());
  if (IsGgufPath(path)) return GgufTokenizer(path);
  const std::string folder = IsDirectory(path) ? path : std::filesystem::path(path).parent_path().string();
  return Tokenizer::FromFile(JoinPath(folder.empty() ? "." : folder, "tokenizer.json"));
}

EngineOptions ModelFlags::ToEngineOptions() const {
  EngineOptions o;
  o.threads = threads;
  o.max_context = max_context;
  o.pin_threads = pin;
  o.kernels = kernels == "plain" ? KernelChoice::kPlain : KernelChoice::kBest;
  o.cpu_isa = CpuIsaFromName(cpu_isa).value_or(kBestCpuIsa);
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

CLI::Option* DeclareRepeatable(CLI::App& app, const char* name, std::vector<std::string>& values, const char* what) {
  return app.add_option(name, values, what)->allow_extra_args(false);
}

void DeclareSampling(CLI::App& app, SamplingParams& s) {
  app.add_option("--temperature", s.temperature, "0: always the likeliest token")->capture_default_str();
  app.add_option("--top-p", s.top_p, "keep the likeliest tokens up to this probability")->capture_default_str();
  app.add_option("--top-k", s.top_k, "keep this many tokens; 0: all")->capture_default_str();
  app.add_option("--min-p", s.min_p, "drop tokens below this share of the likeliest")->capture_default_str();
  app.add_option("--repetition-penalty", s.repetition_penalty,
                 "above 1 makes every token of prompt and answer less likely")
      ->capture_default_str();
  app.add_option("--presence-penalty", s.presence_penalty, "subtracted from the logits of tokens of the answer")
      ->capture_default_str();
  app.add_option("--frequency-penalty", s.frequency_penalty,
                 "subtracted once for each time that the answer has the token")
      ->capture_default_str();
  app.add_option("--seed", s.seed, "the same seed gives the same text")->check(IsSeed)->capture_default_str();
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

Result<Json> ReadChatJson(const std::string& text, const std::string& name, int64_t first_line) {
  Json::ParseOptions options;
  options.allow_duplicates = true;
  options.allow_nan = true;
  options.first_line = first_line;
  Result<Json> json = Json::Parse(text, options);
  if (!json.ok()) return std::move(json).TakeError().Prefix(name);
  return json;
}

Status Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return {};
  const int error = errno;
  if (error == EPIPE) {  // nobody reads any more (vexil ... | head): end as other programs do, without a word
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  return Unavailable(fmt::format("standard output: cannot write: {}", std::generic_category().message(error)));
}

void PrintError(std::string_view text) { (void)std::fwrite(text.data(), 1, text.size(), stderr); }

// The first bytes of a text, at most `size` of them and no part of a character.
static std::string Truncate(const std::string& text, size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && (uint8_t(text[size]) & 0xC0) == 0x80) --size;
  return text.substr(0, size);
}

std::string FormatBytes(int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double v = double(bytes);
  int u = 0;
  for (; v >= 1024 && u < 4; ++u) v /= 1024;
  return u == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", v, units[u]);
}

Json ExpertStatisticsJson(const Model& model) {
  if (model.expert_cache() == nullptr) return {};
  const ExpertCache::Statistics s = model.expert_cache()->statistics();
  Json out;
  out.Set("hits", s.hits);
  out.Set("misses", s.misses);
  out.Set("copied_bytes", s.copied_bytes);
  return out;
}

void PrintExpertStatistics(const Model& model) {
  if (model.expert_cache() == nullptr) return;
  const ExpertCache::Statistics s = model.expert_cache()->statistics();
  PrintError(fmt::format("experts in host memory: needed {} times, found in a slot {} times, copied {} times ({})\n",
                         s.hits + s.misses, s.hits, s.misses, FormatBytes(s.copied_bytes)));
}

void ShowProgress(const std::string& line) {
  if (!isatty(STDERR_FILENO)) return;
  // A line that wraps cannot be drawn over. Progress is ASCII but for paths, which may be cut early.
  winsize size = {};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  PrintError("\r\033[K" + Truncate(line, known ? size_t(size.ws_col) - 1 : line.size()));
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
