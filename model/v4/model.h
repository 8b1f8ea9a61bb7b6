// A loaded DeepSeek-V4 model and its forward pass, written once in terms of ops.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/expert_cache.h"
#include "model/v4/forward.h"

namespace vexil {

struct ModelOptions {
  // Unset: fp8 for a checkpoint with block-scaled linears, else bf16.
  std::optional<NumericsMode> numerics;
  // The first release of the published program did not clamp the shared expert (spec: model, 15).
  bool clamp_shared_expert = true;
  // Unset: config.json beside the weights, or the metadata of a GGUF file.
  std::optional<std::string> config_path;
  // Only the first layers; 0: all. For measuring parts of a model that does not fit (not for Load).
  int64_t layers = 0;
  // An accelerator gets a copy of the weights and of everything else that steps read.
  DeviceId device;
  // Bytes of its memory for weights; routed experts beyond them stay in host memory. Unset: DefaultWeightBudget.
  std::optional<int64_t> device_budget;
  Progress progress;  // of loading
};

class Model {
 public:
  // `path`: a checkpoint directory, one safetensors file or a GGUF file. Maps the weights; on the CPU it reads little
  // of them.
  static Result<std::unique_ptr<Model>> Load(const std::string& path, const ModelOptions& options);
  // A model of weights that are there already and stay there; it has no files. The caller vouches that they match
  // `config`. For benchmarks.
  static std::unique_ptr<Model> FromParts(ModelConfig config, ModelWeights weights, NumericsMode numerics);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  const CheckpointFiles& files() const { return *files_; }
  const Numerics& numerics() const { return numerics_; }
  const std::string& config_path() const { return config_path_; }

  // A model of random weights (ModelWeights::Synthetic) for the configuration in options.config_path. It has no
  // files().
  static Result<std::unique_ptr<Model>> Synthetic(uint64_t seed, const ModelOptions& options);
  // The same for a configuration that no file has.
  static Result<std::unique_ptr<Model>> Synthetic(ModelConfig config, uint64_t seed, const ModelOptions& options);

  // The same without weights (ModelWeights::Outline), in host memory: for MakePlan() and PlacementFor(), nothing else.
  static Result<std::unique_ptr<Model>> Outline(const ModelOptions& options);

  // Copies a model in host memory to an accelerator, which it then owns, and runs there from now on. What Load does
  // for options.device. After an error the model is of no use.
  Status MoveTo(std::unique_ptr<Device> device, std::optional<int64_t> budget = {}, const Progress& progress = {});
  Status MoveTo(std::unique_ptr<Device> device, const ExpertPlacement& placement, const Progress& progress = {});
  // The placement that MoveTo() would choose for a budget.
  Result<ExpertPlacement> PlacementFor(int64_t budget) const;

  // Where the weights are; null: in host memory. Contexts for Forward must be of that device.
  Device* device() const { return device_.get(); }
  // Null when no expert is in host memory.
  const ExpertCache* expert_cache() const { return expert_cache_.get(); }

  // Runs the step, writes logits F32 [batch.logit_rows.size(), V] and appends the tokens' rows to the state. The
  // caller then advances each sequence (StatePool::Advance). Needs ctx.workspace; `observer` may be null. Changes
  // nothing that counts: several threads may run steps on different pools and contexts.
  //
  // On an accelerator the step is only issued to ctx.stream, unless there is an observer or the logits are host memory,
  // to which they are copied: then it has been waited for. Each layer with experts in host memory (expert_cache())
  // waits for what comes before it and for the steps of other threads there.
  Status Forward(const Context& ctx, StatePool& pool, const StepBatch& batch, MutTensorView logits,
                 const v4::Observer* observer = nullptr) const;
  // The same for metadata that is on the device; touches the host for nothing but experts that are there, so a graph
  // can hold it where expert_cache() is null.
  Status Forward(const Context& ctx, StatePool& pool, const StepTensors& batch, MutTensorView logits,
                 const v4::Observer* observer = nullptr) const;

  // BuildStep, Forward and Advance for chunks of distinct sequences.
  Status Step(const Context& ctx, StatePool& pool, std::span<const SequenceChunk> chunks, MutTensorView logits,
              const v4::Observer* observer = nullptr) const;

  // The kernel of every op call of a step of `tokens` tokens of one sequence, `context` tokens before them, without
  // running it.
  Result<Plan> MakePlan(Context ctx, int64_t tokens, int64_t context = 0) const;

 private:
  Model() = default;
  Status ReadConfig(const ModelOptions& options);
  Status MakeWeights(uint64_t seed, const ModelOptions& options);
  Status Finish(const ModelOptions& options);
  Status FinishOnDevice();
  Status ForwardOnDevice(const Context& ctx, StatePool& pool, const StepBatch& batch, MutTensorView logits,
                         const v4::Observer* observer) const;
  Result<v4::LinearInput> Enter(const v4::ForwardStep& step, const HyperConnectionWeights& hc, TensorView norm,
                                const QuantView& reader, v4::Residual& residual) const;
  Status Layer(const v4::ForwardStep& step, int64_t layer, v4::Residual& residual) const;
  Status Leave(const v4::ForwardStep& step, v4::Residual& residual) const;
  Status Head(const v4::ForwardStep& step, TensorView h, MutTensorView logits) const;

  ModelConfig config_;
  std::string config_path_;
  std::shared_ptr<const CheckpointFiles> files_;
  std::unique_ptr<Device> device_;  // before everything that is in its memory
  ModelWeights weights_;
  std::unique_ptr<ExpertCache> expert_cache_;
  Numerics numerics_ = NumericsOf(NumericsMode::kFp8);
  bool clamp_shared_expert_ = true;
  std::vector<float> frequencies_[2];  // of rope_ on the host: window_only, compressed
  DeviceBuffer frequencies_on_device_;
  v4::RopeTables rope_;
};

}  // namespace vexil
