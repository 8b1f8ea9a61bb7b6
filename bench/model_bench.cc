#include "bench/model_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "bench/timing.h"
#include "engine/sampler.h"

namespace vexil {
namespace {

// Sequences of one length that advance together.
class Batch {
 public:
  Batch(const Model& model, const Context& ctx, StatePool& pool) : model_(model), ctx_(ctx), pool_(pool) {}

  Status Prefill(int64_t count, int64_t length, int64_t chunk) {
    std::mt19937 rng(7);
    for (int64_t s = 0; s < count; ++s) {
      VX_ASSIGN(SequenceState state, pool_.NewSequence());
      states_.push_back(std::move(state));
      std::vector<int32_t> ids(static_cast<size_t>(length));
      for (int32_t& id : ids) id = int32_t(rng() % uint64_t(model_.config().vocab_size));
      for (int64_t begin = 0; begin < length; begin += chunk) {
        const size_t tokens = size_t(std::min(chunk, length - begin));
        const SequenceChunk part{&states_.back(), std::span(ids).subspan(size_t(begin), tokens), LogitRows::kNone};
        VX_TRY(model_.Step(ctx_, pool_, {&part, 1}, MutTensorView()));
      }
      last_.push_back(ids.back());
    }
    samplers_.assign(states_.size(), Sampler(SamplingParams{.temperature = 0}, {}));
    return {};
  }

  // One token for every sequence.
  Status Decode() {
    Arena::Scope scope(*ctx_.workspace);
    const int64_t n = int64_t(states_.size()), v = model_.config().vocab_size;
    const MutTensorView logits = ctx_.workspace->NewTensor(DType::kF32, {n, v});
    std::vector<SequenceChunk> chunks;
    std::vector<Sampler*> samplers;
    for (size_t s = 0; s < states_.size(); ++s) {
      chunks.push_back({&states_[s], {&last_[s], 1}, LogitRows::kLast});
      samplers.push_back(&samplers_[s]);
    }
    VX_TRY(model_.Step(ctx_, pool_, chunks, logits));
    VX_ASSIGN(const std::vector<SampledToken> tokens, SampleTokens(ctx_, logits, samplers));
    for (size_t s = 0; s < states_.size(); ++s) last_[s] = tokens[s].token;
    return {};
  }

 private:
  const Model& model_;
  const Context& ctx_;
  StatePool& pool_;
  std::vector<SequenceState> states_;
  std::vector<int32_t> last_;
  std::vector<Sampler> samplers_;
};

Status BenchRow(const Model& model, const Context& ctx, const ModelBenchOptions& o, ModelBenchRow& row,
                const std::atomic<bool>& cancelled) {
  const int64_t pages = row.batch * ((row.context + o.decode_tokens) / kPageTokens + 2);
  VX_ASSIGN(const std::unique_ptr<StatePool> pool,
            StatePool::Create(StateLayout::For(model.config(), model.numerics()), row.batch, pages));
  Batch batch(model, ctx, *pool);
  const double start = NowSeconds();
  VX_TRY(batch.Prefill(row.batch, row.context, o.chunk));
  row.prefill_tokens_per_s = double(row.batch * row.context) / (NowSeconds() - start);
  std::vector<double> seconds;
  for (int64_t i = 0; i < o.decode_tokens; ++i) {
    if (cancelled.load()) return Cancelled("interrupted");
    const double before = NowSeconds();
    VX_TRY(batch.Decode());
    seconds.push_back(NowSeconds() - before);
  }
  const Timing t = Summarize(std::move(seconds));
  row.decode_tokens_per_s = double(row.batch) / t.median_s;
  row.decode_spread = t.spread;
  return {};
}

}  // namespace

Status BenchModel(const Model& model, ThreadPool& threads, KernelChoice kernels, const ModelBenchOptions& options,
                  const std::function<void(const ModelBenchRow&)>& on_row,
                  const std::function<void(const std::string&)>& on_progress, const std::atomic<bool>& cancelled) {
  Arena workspace;
  Context ctx;
  ctx.threads = &threads;
  ctx.workspace = &workspace;
  ctx.choice = kernels;
  for (int64_t context : options.contexts) {
    for (int64_t batch : options.batches) {
      ModelBenchRow row;
      row.batch = batch;
      row.context = context;
      on_progress(fmt::format("batch {}, context {}", batch, context));
      VX_TRY(BenchRow(model, ctx, options, row, cancelled));
      on_row(row);
    }
  }
  return {};
}

}  // namespace vexil
