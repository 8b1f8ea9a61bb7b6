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
  // Unset: config.json beside the weights.
  std::optional<std::string> config_path;
};

class Model {
 public:
  // `path`: a checkpoint directory or one safetensors file. Maps the weights; reads little of them.
  static Result<std::unique_ptr<Model>> Load(const std::string& path, const ModelOptions& options);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  const CheckpointFiles& files() const { return *files_; }
  const Numerics& numerics() const { return numerics_; }
  const std::string& config_path() const { return config_path_; }

  // Runs the step, writes logits F32 [batch.logit_rows.size(), V] and appends the tokens' rows to the state. The
  // caller then advances each sequence (StatePool::Advance). Needs ctx.workspace; `observer` may be null. Does not
  // change the model: several threads may run steps on different pools and contexts.
  Status Forward(const Context& ctx, StatePool& pool, const StepBatch& batch, MutTensorView logits,
                 const v4::Observer* observer = nullptr) const;

  // BuildStep, Forward and Advance for chunks of distinct sequences.
  Status Step(const Context& ctx, StatePool& pool, std::span<const SequenceChunk> chunks, MutTensorView logits,
              const v4::Observer* observer = nullptr) const;

  // The kernel of every op call of a step of `tokens` tokens, without running it.
  Result<Plan> MakePlan(Context ctx, int64_t tokens) const;

 private:
  Model() = default;
  Status Layer(const v4::ForwardStep& step, int64_t layer, MutTensorView h) const;
  Status Head(const v4::ForwardStep& step, TensorView h, MutTensorView logits) const;

  ModelConfig config_;
  std::string config_path_;
  std::shared_ptr<const CheckpointFiles> files_;
  ModelWeights weights_;
  Numerics numerics_ = NumericsOf(NumericsMode::kFp8);
  bool clamp_shared_expert_ = true;
  v4::RopeTables rope_;
};

}  // namespace vexil
