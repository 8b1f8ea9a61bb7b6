#include "bench/layer_bench.h"

#include <algorithm>
#include <random>

#include "base/rng.h"
#include "bench/op_bench.h"
#include "bench/synthetic_model.h"

namespace vexil {
namespace {

// Adds up the time and the floor of each call.
class FloorTrace : public OpTrace {
 public:
  FloorTrace(double f32_peak, double bf16_peak) : f32_(f32_peak), bf16_(bf16_peak) {}
  // Bytes per second that the floors of the next calls are taken with.
  void SetReadBandwidth(double bandwidth) { read_ = bandwidth; }
  void OnStart() override { start_ = NowSeconds(); }
  void OnEnd(std::string_view op, std::string_view kernel, const void* args) override {
    const double seconds = NowSeconds() - start_;
    const OpCost cost = CostOfCall(op, args);
    OpShare& s = shares_[std::string(kernel)];
    s.seconds += seconds;
    s.floor += std::max(cost.bytes / read_, cost.flops / (cost.unit == ComputeUnit::kF32 ? f32_ : bf16_));
    s.bytes += cost.bytes;
    s.flops += cost.flops;
    ++s.calls;
  }
  // Per step.
  std::map<std::string, OpShare> Shares(double steps) const {
    std::map<std::string, OpShare> shares = shares_;
    for (auto& [kernel, s] : shares) {
      for (double* v : {&s.seconds, &s.floor, &s.bytes, &s.flops, &s.calls}) *v /= steps;
    }
    return shares;
  }

 private:
  double f32_, bf16_, read_ = 0, start_ = 0;
  std::map<std::string, OpShare> shares_;
};

void FillRandom(MutTensorView v, uint64_t seed) {
  if (v.empty()) return;
  for (int64_t i = 0; i < v.dims().Count(); ++i) {
    const float value = RandomUniform(seed, uint64_t(i)) - 0.5f;
    v.dtype() == DType::kF32 ? void(v.MutData<float>()[i] = value) : void(v.MutData<BF16>()[i] = BF16::From(value));
  }
}

// A state with `context` tokens that no step has computed: its rows are random numbers.
Result<SequenceState> PretendContext(StatePool& pool, int64_t context) {
  VX_ASSIGN(SequenceState sequence, pool.NewSequence());
  VX_TRY(pool.Reserve(sequence, context));
  pool.Advance(sequence, context);
  for (size_t l = 0; l < pool.layout().layers.size(); ++l) {
    const StatePool::LayerViews& v = pool.layer(int64_t(l));
    for (const MutTensorView& part : {v.window, v.overlap, v.index_overlap, v.running, v.entries, v.index_keys}) {
      FillRandom(part, l);
    }
  }
  return sequence;
}

Status BenchOne(const Model& model, ThreadPool& threads, MachineLimits& limits, const LayerBenchOptions& options,
                bool head, LayerBenchRow& row, const std::atomic<bool>& cancelled) {
  constexpr int64_t kSpareTokens = 4096;
  const int64_t pages = (options.context + options.tokens + kSpareTokens) / kPageTokens + 2;
  VX_ASSIGN(const std::unique_ptr<StatePool> pool,
            StatePool::Create(StateLayout::For(model.config(), model.numerics()), 1, pages));
  VX_ASSIGN(SequenceState sequence, PretendContext(*pool, options.context));
  FloorTrace trace(limits.Peak(ComputeUnit::kF32).flops, limits.Peak(ComputeUnit::kBf16).flops);
  Arena workspace;
  Context ctx;
  ctx.threads = &threads;
  ctx.workspace = &workspace;
  ctx.trace = &trace;
  ctx.without = &options.without;
  std::mt19937 rng(1);
  std::vector<int32_t> ids(size_t(options.tokens));
  std::vector<float> logits(size_t(model.config().vocab_size));
  std::vector<double> seconds, read;
  for (const double start = NowSeconds(); seconds.size() < 3 || NowSeconds() - start < options.seconds;) {
    for (int32_t& id : ids) id = int32_t(rng() % 2000);
    // Also drives the weights that the last step used out of the caches.
    read.push_back(limits.ReadBandwidth());
    trace.SetReadBandwidth(read.back());
    const SequenceChunk chunk{&sequence, ids, head ? LogitRows::kLast : LogitRows::kNone};
    const double before = NowSeconds();
    VX_TRY(model.Step(ctx, *pool, {&chunk, 1},
                      MutTensorView(logits.data(), DType::kF32, {head ? 1 : 0, int64_t(logits.size())})));
    seconds.push_back(NowSeconds() - before);
    VX_TRY(pool->RollBack(sequence, options.tokens <= kMaxRollback ? options.tokens : 0));
    if (cancelled.load()) return Cancelled("interrupted");
    if (sequence.length + options.tokens >= (pages - 1) * kPageTokens) break;
  }
  row.kernels = trace.Shares(double(seconds.size()));
  row.timing = Summarize(std::move(seconds));
  for (const auto& [kernel, share] : row.kernels) row.floor += share.floor;
  const auto middle = read.begin() + std::ptrdiff_t(read.size() / 2);
  std::nth_element(read.begin(), middle, read.end());
  row.read_bandwidth = *middle;
  return {};
}

}  // namespace

Json LayerBenchRow::ToJson() const {
  Json j(Json::Object{});
  j.Set("layer", name);
  j.Set("tokens", tokens);
  j.Set("context", context);
  j.Set("time_us", timing.median_s * 1e6);
  j.Set("spread", timing.spread);
  j.Set("floor_us", floor * 1e6);
  j.Set("ratio", ratio());
  j.Set("read_bytes_per_s", read_bandwidth);
  Json::Array parts;
  for (const auto& [kernel, s] : kernels) {
    Json part(Json::Object{});
    part.Set("kernel", kernel);
    part.Set("calls", s.calls);
    part.Set("time_us", s.seconds * 1e6);
    part.Set("floor_us", s.floor * 1e6);
    part.Set("bytes", s.bytes);
    part.Set("flops", s.flops);
    parts.push_back(std::move(part));
  }
  j.Set("kernels", std::move(parts));
  return j;
}

Status BenchLayers(ThreadPool& threads, MachineLimits& limits, const LayerBenchOptions& options,
                   const std::function<void(const LayerBenchRow&)>& on_row,
                   const std::function<void(const std::string&)>& on_progress, const std::atomic<bool>& cancelled) {
  const auto run = [&](std::string_view name, int64_t layers, bool head, auto&& make) -> Status {
    on_progress("making the weights of " + std::string(name));
    LayerBenchRow row;
    row.name = name;
    row.layers = layers;
    row.tokens = options.tokens;
    row.context = options.context;
    const std::unique_ptr<SyntheticModel> synthetic = make();
    on_progress("timing " + std::string(name));
    VX_TRY(BenchOne(synthetic->model(), threads, limits, options, head, row, cancelled));
    on_row(row);
    return {};
  };
  for (const LayerKind& kind : kLayerKinds) {
    VX_TRY(run(kind.name, kind.layers, false, [&] { return SyntheticModel::WithLayer(kind.ratio); }));
  }
  return run("head", 1, true, [] { return SyntheticModel::WithHead(); });
}

}  // namespace vexil
