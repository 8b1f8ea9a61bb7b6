// What several sub-commands share: model options, loading, reading inputs, interrupts.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "engine/engine.h"
#include "model/v4/model.h"
#include "text/tokenizer.h"

namespace vexil::cli {

// Which model, where, and how it runs.
struct ModelFlags {
  std::string ckpt_path;    // empty: models/tiny of the source or install tree
  std::string config;       // empty: beside the weights
  std::string data_format;  // empty: chosen by the checkpoint
  std::string device = "cpu";
  double gpu_memory = 0;  // GiB; 0: chosen by what is free
  int threads = 0;
  std::string kernels = "best";
  std::string cpu_isa;  // empty: the best of this machine
  bool unclamped_shared_expert = false;
  bool pin = false;
  int64_t synthetic = -1;  // a seed: random weights instead of a checkpoint's
  int64_t layers = 0;      // with synthetic weights: the first ones only
  int64_t max_context = 0;

  // Everything that a command needs to run a model.
  void Declare(CLI::App& app);
  // Only what says which model and where: --ckpt-path, --config, --data-format, --device, --gpu-memory,
  // --unclamped-shared-expert.
  void DeclareModel(CLI::App& app);
  // --kernels, --cpu-isa.
  void DeclareKernels(CLI::App& app);
  // --synthetic and --layers, for commands that need no text.
  void DeclareSynthetic(CLI::App& app);
  Result<std::string> CheckpointPath() const;
  // Shows progress on a terminal meanwhile, and says on standard error how many experts are in host memory, if any.
  Result<std::unique_ptr<Model>> LoadModel() const;
  // In host memory, whatever --device says: for commands that run nothing.
  Result<std::unique_ptr<Model>> LoadModelToLook() const;
  // The same for commands that do not look at the weights either: a configuration without a checkpoint is enough
  // (Model::Outline).
  Result<std::unique_ptr<Model>> LoadModelToPlan() const;
  // Where the experts of a model in host memory would be. Empty without --gpu-memory.
  Result<std::optional<ExpertPlacement>> Placement(const Model& model) const;
  Result<std::unique_ptr<Tokenizer>> LoadTokenizer() const;
  EngineOptions ToEngineOptions() const;
};

// A model with its tokenizer and engine.
struct LoadedModel {
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Engine> engine;
};
Result<LoadedModel> LoadAll(const ModelFlags& flags);

// An option that may be repeated and takes one value each time.
CLI::Option* DeclareRepeatable(CLI::App& app, const char* name, std::vector<std::string>& values, const char* what);

// --temperature, --top-p and the other sampling options.
void DeclareSampling(CLI::App& app, SamplingParams& sampling);

// --thinking chat|thinking|max.
CLI::Option* DeclareThinking(CLI::App& app, std::string& thinking);

// All of standard input ("-") or of a file, up to 1 GiB.
Result<std::string> ReadInput(const std::string& path);
// A JSON document with the rules that chat clients expect (Python's). `first_line`: of the text in the file `name`.
Result<Json> ReadChatJson(const std::string& text, const std::string& name, int64_t first_line = 1);

// Writes to standard output; an error when it is gone.
Status Print(std::string_view text);

// Writes to standard error. When that is gone too, nobody can be told.
void PrintError(std::string_view text);
// "12 B", "3.4 GiB".
std::string FormatBytes(int64_t bytes);

// What became of the experts in host memory; null where there are none.
Json ExpertStatisticsJson(const Model& model);
// The same as a line on standard error, if there is something to say.
void PrintExpertStatistics(const Model& model);

// One line on standard error that is drawn over, only on a terminal.
void ShowProgress(const std::string& line);
void ClearProgress();

// While it lives, Ctrl-C cancels the engine's current Generate; a second Ctrl-C ends the program.
class InterruptCancels {
 public:
  explicit InterruptCancels(Engine& engine);
  ~InterruptCancels();
  static bool interrupted();
};

}  // namespace vexil::cli
