#include "model/v4/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "io/file.h"
#include "model/gguf_config.h"
#include "model/upload.h"
#include "ops/embedding/embedding.h"
#include "ops/hc_boundary/hc_boundary.h"
#include "ops/hc_head/hc_head.h"
#include "ops/hc_post/hc_post.h"
#include "ops/linear/linear.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/frequencies.h"

namespace vexil {
namespace {

std::vector<float> Frequencies(const ModelConfig& c, bool compressed) {
  RopeConfig r{.base = compressed ? c.compress_rope_theta : c.rope_theta, .dims = c.rope_dim};
  if (compressed) {
    r.factor = c.rope_scaling.factor;
    r.original_length = c.rope_scaling.original_length;
    r.beta_fast = c.rope_scaling.beta_fast;
    r.beta_slow = c.rope_scaling.beta_slow;
  }
  return RopeFrequencies(r);
}

// The file with the configuration; a GGUF file itself.
Result<std::string> FindConfig(const std::string& path, const ModelOptions& options) {
  if (!IsDirectory(path) && !FileExists(path)) return NotFound(fmt::format("{}: no such file or directory", path));
  if (options.config_path) return *options.config_path;
  if (IsGgufPath(path)) return path;
  const std::string folder = IsDirectory(path) ? path : std::filesystem::path(path).parent_path().string();
  for (const char* name : {"config.json", "inference/config.json"}) {
    const std::string candidate = JoinPath(folder.empty() ? "." : folder, name);
    if (FileExists(candidate)) return candidate;
  }
  return NotFound(fmt::format("{}: no config.json beside the weights; name one with --config", path));
}

}  // namespace

Result<std::unique_ptr<Model>> Model::Load(const std::string& path, const ModelOptions& options) {
  std::unique_ptr<Model> m(new Model);
  VX_ASSIGN(m->config_path_, FindConfig(path, options));
  const bool inside = m->config_path_ == path;
  if (!inside) {
    VX_ASSIGN(m->config_, ModelConfig::ReadFile(m->config_path_));
  }
  VX_ASSIGN(CheckpointFiles files, CheckpointFiles::Open(path));
  if (inside) {
    VX_ASSIGN(m->config_, ReadGgufConfig(*files.gguf()));
  }
  m->files_ = std::make_shared<const CheckpointFiles>(std::move(files));
  VX_ASSIGN(m->weights_, ModelWeights::Load(m->files_, m->config_));
  VX_TRY(m->Finish(options));
  if (options.device.kind != DeviceKind::kCpu) {
    VX_ASSIGN(std::unique_ptr<Device> device, OpenDevice(options.device));
    VX_TRY(m->MoveTo(std::move(device), options.device_budget, options.progress));
  }
  return m;
}

std::unique_ptr<Model> Model::FromParts(ModelConfig config, ModelWeights weights, NumericsMode numerics) {
  std::unique_ptr<Model> m(new Model);
  m->config_ = std::move(config);
  m->weights_ = std::move(weights);
  ModelOptions options;
  options.numerics = numerics;
  const Status finished = m->Finish(options);
  VX_CHECK(finished.ok(), "only moving to a device can fail");
  return m;
}

// The configuration alone, of a model without a checkpoint.
Status Model::ReadConfig(const ModelOptions& options) {
  if (!options.config_path) return InvalidArgument("synthetic weights need a configuration; name one with --config");
  config_path_ = *options.config_path;
  VX_ASSIGN(config_, ModelConfig::ReadFile(config_path_));
  if (options.layers > 0 && options.layers < config_.num_layers) {
    config_.num_layers = options.layers;
    config_.num_hash_layers = std::min(config_.num_hash_layers, config_.num_layers);
    config_.compress_ratios.resize(size_t(config_.num_layers));
  }
  return {};
}

Result<std::unique_ptr<Model>> Model::Outline(const ModelOptions& options) {
  std::unique_ptr<Model> m(new Model);
  VX_TRY(m->ReadConfig(options));
  m->weights_ = ModelWeights::Outline(m->config_);
  VX_TRY(m->Finish(options));
  return m;
}

Result<std::unique_ptr<Model>> Model::Synthetic(uint64_t seed, const ModelOptions& options) {
  std::unique_ptr<Model> m(new Model);
  VX_TRY(m->ReadConfig(options));
  VX_TRY(m->MakeWeights(seed, options));
  return m;
}

Result<std::unique_ptr<Model>> Model::Synthetic(ModelConfig config, uint64_t seed, const ModelOptions& options) {
  std::unique_ptr<Model> m(new Model);
  m->config_ = std::move(config);
  VX_TRY(m->MakeWeights(seed, options));
  return m;
}

Status Model::MakeWeights(uint64_t seed, const ModelOptions& options) {
  if (options.device.kind != DeviceKind::kCpu) {
    VX_ASSIGN(device_, OpenDevice(options.device));
  }
  std::optional<int64_t> budget = options.device_budget;
  if (device_ && !budget) budget = DefaultWeightBudget(device_->FreeBytes());
  VX_ASSIGN(weights_, ModelWeights::Synthetic(config_, seed, device_.get(), budget, options.progress));
  return Finish(options);
}

// What follows from configuration, weights and device.
Status Model::Finish(const ModelOptions& options) {
  const NumericsMode automatic = weights_.has_quantized_linears ? NumericsMode::kFp8 : NumericsMode::kBf16;
  numerics_ = NumericsOf(options.numerics.value_or(automatic));
  clamp_shared_expert_ = options.clamp_shared_expert;
  for (const bool compressed : {false, true}) {
    std::vector<float>& f = frequencies_[compressed];
    f = Frequencies(config_, compressed);
    (compressed ? rope_.compressed : rope_.window_only) = TensorView(f.data(), DType::kF32, {int64_t(f.size())});
  }
  return device_ ? FinishOnDevice() : Status();
}

// The weights are there.
Status Model::FinishOnDevice() {
  TensorView* const tables[] = {&rope_.window_only, &rope_.compressed};
  VX_ASSIGN(frequencies_on_device_, Upload(*device_, tables));
  if (weights_.placement().all_resident()) return {};
  VX_ASSIGN(expert_cache_, ExpertCache::Create(*device_, weights_));
  return {};
}

Status Model::MoveTo(std::unique_ptr<Device> device, std::optional<int64_t> budget, const Progress& progress) {
  const int64_t bytes = budget.value_or(DefaultWeightBudget(device->FreeBytes()));
  VX_ASSIGN(const ExpertPlacement placement, PlacementFor(bytes));
  return MoveTo(std::move(device), placement, progress);
}

Status Model::MoveTo(std::unique_ptr<Device> device, const ExpertPlacement& placement, const Progress& progress) {
  VX_CHECK(device_ == nullptr, "the model is on a device already");
  device_ = std::move(device);
  VX_TRY(weights_.MoveTo(*device_, placement, progress));
  return FinishOnDevice();
}

Result<ExpertPlacement> Model::PlacementFor(int64_t budget) const {
  return ExpertPlacement::For(weights_.Sizes(), budget);
}

v4::Residual::Residual(const ForwardStep& s, int64_t m, int64_t d)
    : h(s.Activations({s.n(), m, d})),
      y(s.Activations({s.n(), d})),
      post(s.NewF32({s.n(), m})),
      comb(s.NewF32({s.n(), m, m})),
      x(s.Activations({s.n(), d})) {
  if (!s.numerics.quantize_linear_inputs) return;
  constexpr int64_t kBlock = LinearInput::kE4M3Block;
  codes = s.arena().NewTensor(DType::kE4M3, {s.n(), d});
  codes_scale = s.arena().NewTensor(DType::kE8M0, {s.n(), (d + kBlock - 1) / kBlock});
}

// From the sub-layer before, if there is one, to the input of the next. `reader`: a weight that multiplies the input.
Result<v4::LinearInput> Model::Enter(const v4::ForwardStep& s, const HyperConnectionWeights& hc, TensorView norm,
                                     const QuantView& reader, v4::Residual& r) const {
  HcBoundary::Args a{.y = {},
                     .y_post = {},
                     .y_comb = {},
                     .h = r.h,
                     .fn = hc.fn,
                     .scale = hc.scale,
                     .base = hc.base,
                     .post = r.post,
                     .comb = r.comb,
                     .norm = norm,
                     .x = r.x,
                     .codes = {},
                     .codes_scale = {},
                     .norm_eps = float(config_.norm_eps),
                     .hc_eps = float(config_.hc_eps),
                     .sinkhorn_iters = int(config_.sinkhorn_iters),
                     .block = v4::LinearInput::kE4M3Block};
  if (r.pending) a.y = r.y, a.y_post = r.post, a.y_comb = r.comb;
  const bool rounds = v4::LinearInput::RoundsToE4M3(s, reader);
  if (rounds) a.codes = r.codes, a.codes_scale = r.codes_scale;
  VX_TRY(Run<HcBoundary>(s.ctx, a));
  r.pending = true;
  return v4::LinearInput(s, r.x, rounds ? QuantView(r.codes, r.codes_scale, 1, a.block) : QuantView());
}

Status Model::Layer(const v4::ForwardStep& s, int64_t layer, v4::Residual& r) const {
  const LayerWeights& w = weights_.layers[size_t(layer)];
  const auto label = [&](const char* name) {
    if (s.ctx.plan) s.ctx.plan->SetLabel(fmt::format("layers.{} {}", layer, name));
  };
  label("attention");
  {
    VX_ASSIGN(v4::LinearInput x, Enter(s, w.hc_attn, w.attn_norm, w.attn.wq_a, r));
    if (layer > 0) s.Observe(layer - 1, "out", r.h);
    VX_TRY(v4::Attention(s, layer, w.attn, x, r.y));
    s.Observe(layer, "attn_out", r.y);
  }
  label("experts");
  VX_ASSIGN(v4::LinearInput x, Enter(s, w.hc_ffn, w.ffn_norm, w.moe.w1[0], r));
  VX_TRY(v4::Moe(s, layer, w.moe, x, r.y));
  s.Observe(layer, "mlp_out", r.y);
  return {};
}

// The output of the last layer joins the streams.
Status Model::Leave(const v4::ForwardStep& s, v4::Residual& r) const {
  if (!r.pending) return {};
  VX_TRY(Run<HcPost>(s.ctx, {.x = r.y, .residual = r.h, .post = r.post, .comb = r.comb, .y = r.h}));
  r.pending = false;
  s.Observe(config_.num_layers - 1, "out", r.h);
  return {};
}

// Spec: model, 10, for the rows that want logits.
Status Model::Head(const v4::ForwardStep& s, TensorView h, MutTensorView logits) const {
  if (s.ctx.plan) s.ctx.plan->SetLabel("head");
  const int64_t rows = s.batch.logit_rows.dim(0), m = config_.hc_mult, d = config_.dim;
  const MutTensorView streams = s.Activations({rows, m, d}), x = s.Activations({rows, d});
  VX_TRY(Run<Embedding>(
      s.ctx, {.ids = s.batch.logit_rows, .table = h.Reshape({s.n(), m * d}), .y = streams.Reshape({rows, 1, m * d})}));
  VX_TRY(Run<HcHead>(s.ctx, {.h = streams,
                             .fn = weights_.hc_head.fn,
                             .scale = weights_.hc_head.scale,
                             .base = weights_.hc_head.base,
                             .x = x,
                             .norm_eps = float(config_.norm_eps),
                             .hc_eps = float(config_.hc_eps)}));
  VX_TRY(Run<RmsNorm>(s.ctx, {.x = x, .weight = weights_.norm, .y = x, .eps = float(config_.norm_eps)}));
  return Run<Linear>(s.ctx, {.x = x, .w = weights_.head, .y = logits});
}

Status Model::Forward(const Context& ctx, StatePool& pool, const StepTensors& batch, MutTensorView logits,
                      const v4::Observer* observer) const {
  VX_CHECK(ctx.workspace != nullptr, "a forward pass needs a workspace");
  Arena::Scope scope(*ctx.workspace);
  const v4::ForwardStep s{
      ctx, config_, numerics_, rope_, pool, batch, observer, clamp_shared_expert_, expert_cache_.get()};
  if (ctx.plan) ctx.plan->SetLabel("embedding");
  v4::Residual r(s, config_.hc_mult, config_.dim);
  VX_TRY(Run<Embedding>(ctx, {.ids = batch.tokens, .table = weights_.embed, .y = r.h}));
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    Arena::Scope layer_scope(*ctx.workspace);
    VX_TRY(Layer(s, layer, r));
  }
  VX_TRY(Leave(s, r));
  if (batch.logit_rows.dim(0) == 0) return {};
  return Head(s, r.h, logits);
}

// The metadata goes to the device in one copy, the logits come back if the caller wants them on the host.
Status Model::ForwardOnDevice(const Context& ctx, StatePool& pool, const StepBatch& batch, MutTensorView logits,
                              const v4::Observer* observer) const {
  Arena::Scope scope(*ctx.workspace);
  std::vector<std::byte> packed(PackedBytes(batch));
  void* metadata = ctx.workspace->Allocate(packed.size());
  const StepTensors tensors = Pack(batch, packed.data(), metadata, ctx.device);
  VX_TRY(ctx.accelerator->CopyIn(metadata, packed.data(), packed.size(), ctx.stream));
  if (logits.empty() || logits.device() == ctx.device) return Forward(ctx, pool, tensors, logits, observer);
  const MutTensorView made = ctx.workspace->NewTensor(DType::kF32, logits.dims());
  VX_TRY(Forward(ctx, pool, tensors, made, observer));
  VX_TRY(ctx.accelerator->CopyOut(logits.mut_raw(), made.raw(), size_t(made.Bytes()), ctx.stream));
  return ctx.accelerator->Synchronize(ctx.stream);
}

Status Model::Forward(const Context& ctx, StatePool& pool, const StepBatch& batch, MutTensorView logits,
                      const v4::Observer* observer) const {
  if (ctx.accelerator) return ForwardOnDevice(ctx, pool, batch, logits, observer);
  return Forward(ctx, pool, ViewsOf(batch), logits, observer);
}

Status Model::Step(const Context& ctx, StatePool& pool, std::span<const SequenceChunk> chunks, MutTensorView logits,
                   const v4::Observer* observer) const {
  VX_ASSIGN(const StepBatch batch, BuildStep(pool, chunks, config_.vocab_size));
  VX_TRY(Forward(ctx, pool, batch, logits, observer));
  for (const SequenceChunk& c : chunks) pool.Advance(*c.state, int64_t(c.tokens.size()));
  return {};
}

Result<Plan> Model::MakePlan(Context ctx, int64_t tokens, int64_t context) const {
  Plan plan;
  Arena arena;
  ctx.plan = &plan;
  ctx.workspace = &arena;
  ctx.dry_run = true;
  VX_ASSIGN(const std::unique_ptr<StatePool> pool,
            StatePool::Create(StateLayout::For(config_, numerics_), 1, (context + tokens) / kPageTokens + 1));
  VX_ASSIGN(SequenceState sequence, pool->NewSequence());
  VX_TRY(pool->Reserve(sequence, context));
  pool->Advance(sequence, context);
  const std::vector<int32_t> ids(size_t(tokens), 0);
  const SequenceChunk chunk{&sequence, ids, LogitRows::kLast};
  VX_ASSIGN(const StepBatch batch, BuildStep(*pool, {&chunk, 1}, config_.vocab_size));
  const MutTensorView logits = arena.NewTensor(DType::kF32, {1, config_.vocab_size});
  VX_TRY(Forward(ctx, *pool, batch, logits));
  return plan;
}

}  // namespace vexil
