// A loaded DeepSeek-V4 model and its forward pass, written once in terms of ops.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/v4/forward.h"

namespace vexil {

struct ModelOptions {
  // Unset: fp8 for a checkpoint with block-scaled linears, else bf16.
  std::optional<NumericsMode> numerics;
  // The first release of the published program did not clamp the shared expert (spec: model, 15).
  bool clamp_shared_expert = true;
  // Unset: config.json beside the weights, or the metadata of a GGUF file.
  std::optional<std::string> config_path;
  // Only the first layers; 0: all. For measuring parts of a model that does not fit (Synthetic only).
  int64_t layers = 0;
  // An accelerator gets a copy of the weights and of everything else that steps read.
  DeviceId device;
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

  // Copies a model in host memory to an accelerator, which it then owns, and runs there from now on. What Load does
  // for options.device. After an error the model is of no use.
  Status MoveTo(std::unique_ptr<Device> device);

  // Where the weights are; null: in host memory. Contexts for Forward must be of that device.
  Device* device() const { return device_.get(); }

  // Runs the step, writes logits F32 [batch.logit_rows.size(), V] and appends the tokens' rows to the state. The
  // caller then advances each sequence (StatePool::Advance). Needs ctx.workspace; `observer` may be null. Does not
  // change the model: several threads may run steps on different pools and contexts.
  //
  // On an accelerator the step is only issued to ctx.stream, unless there is an observer or the logits are host memory,
  // to which they are copied: then it has been waited for.
  Status Forward(const Context& ctx, StatePool& pool, const StepBatch& batch, MutTensorView logits,
                 const v4::Observer* observer = nullptr) const;
  // The same for metadata that is on the device; touches the host for nothing, so a graph can hold it.
  Status Forward(const Context& ctx, StatePool& pool, const StepTensors& batch, MutTensorView logits,
                 const v4::Observer* observer = nullptr) const;

  // BuildStep, Forward and Advance for chunks of distinct sequences.
  Status Step(const Context& ctx, StatePool& pool, std::span<const SequenceChunk> chunks, MutTensorView logits,
              const v4::Observer* observer = nullptr) const;

  // The kernel of every op call of a step of `tokens` tokens, without running it.
  Result<Plan> MakePlan(Context ctx, int64_t tokens) const;

 private:
  Model() = default;
  Status Finish(const ModelOptions& options);
  Status UploadRope();
  Status ForwardOnDevice(const Context& ctx, StatePool& pool, const StepBatch& batch, MutTensorView logits,
                         const v4::Observer* observer) const;
  Status Layer(const v4::ForwardStep& step, int64_t layer, MutTensorView h) const;
  Status Head(const v4::ForwardStep& step, TensorView h, MutTensorView logits) const;

  ModelConfig config_;
  std::string config_path_;
  std::shared_ptr<const CheckpointFiles> files_;
  std::unique_ptr<Device> device_;  // before everything that is in its memory
  ModelWeights weights_;
  Numerics numerics_ = NumericsOf(NumericsMode::kFp8);
  bool clamp_shared_expert_ = true;
  std::vector<float> frequencies_[2];  // of rope_ on the host: window_only, compressed
  DeviceBuffer frequencies_on_device_;
  v4::RopeTables rope_;
};

}  // namespace vexil
