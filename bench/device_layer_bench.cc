#include "bench/device_layer_bench.h"

#include <algorithm>
#include <deque>
#include <random>

#include "bench/device_limits.h"
#include "bench/host_indices.h"
#include "bench/op_bench.h"
#include "bench/synthetic_model.h"

namespace vexil {
namespace {

constexpr int kSteps = 8;     // different tokens, so that steps need different experts
constexpr int kReplays = 48;  // of their graphs in turn

// Events in the order in which they were recorded; they are reused from step to step.
class EventList {
 public:
  explicit EventList(Device& device) : device_(device) {}
  ~EventList() {
    for (void* e : events_) device_.DeleteEvent(e);
  }
  EventList(const EventList&) = delete;
  EventList& operator=(const EventList&) = delete;

  void Rewind() { next_ = 0; }
  Status Record() {
    if (next_ == events_.size()) {
      VX_ASSIGN(void* e, device_.NewEvent());
      events_.push_back(e);
    }
    return device_.Record(events_[next_++], device_.stream());
  }
  // Between event i and the one after it.
  Result<double> Seconds(size_t i) { return device_.Seconds(events_[i], events_[i + 1]); }

 private:
  Device& device_;
  std::vector<void*> events_;
  size_t next_ = 0;
};

// What every call of a step costs. Waits for each call.
class CostTrace : public OpTrace {
 public:
  struct Call {
    std::string kernel;
    OpCost cost;
  };
  explicit CostTrace(Device& device) : device_(device) {}
  void OnStart() override {}
  void OnEnd(std::string_view op, std::string_view kernel, const void* args) override {
    std::vector<std::byte> copy(BytesOfArgs(op));
    std::memcpy(copy.data(), args, copy.size());
    HostIndices indices(device_);
    if (Status s = indices.Take(copy.data(), copy.size()); !s.ok()) {
      status_ = std::move(s);
    } else {
      calls_.push_back({std::string(kernel), CostOfCall(op, copy.data())});
    }
  }
  const std::vector<Call>& calls() const { return calls_; }
  Status TakeStatus() { return std::move(status_); }

 private:
  Device& device_;
  std::vector<Call> calls_;
  Status status_;
};

// Two events around every call.
class TimeTrace : public OpTrace {
 public:
  explicit TimeTrace(EventList& events) : events_(events) {}
  void OnStart() override { (void)events_.Record(); }
  void OnEnd(std::string_view, std::string_view, const void*) override { (void)events_.Record(); }

 private:
  EventList& events_;
};

class LayerOnDevice {
 public:
  LayerOnDevice(const Model& model, const LayerBenchOptions& options, bool head)
      : model_(model), device_(*model.device()), options_(options), head_(head), workspace_(&device_) {
    ctx_.device = device_.caps().id;
    ctx_.accelerator = &device_;
    ctx_.stream = device_.stream();
    ctx_.workspace = &workspace_;
    ctx_.without = &options.without;
  }
  ~LayerOnDevice() {
    for (Step& s : steps_) {
      if (s.graph) device_.DeleteGraph(s.graph);
    }
  }
  LayerOnDevice(const LayerOnDevice&) = delete;
  LayerOnDevice& operator=(const LayerOnDevice&) = delete;

  Status Run(LayerBenchRow& row, const std::atomic<bool>& cancelled) {
    VX_ASSIGN(DeviceLimits limits, DeviceLimits::Create(device_));
    VX_TRY(MakeSteps());
    VX_TRY(TimeCalls(limits, row));
    VX_TRY(Capture());
    return TimeGraphs(limits, row, cancelled);
  }

 private:
  // A step that can be run again and again.
  struct Step {
    StepTensors tensors;
    DeviceBuffer metadata;
    Device::GraphHandle graph = nullptr;
  };

  Status MakeSteps() {
    const int64_t tokens = options_.tokens, pages = (options_.context + tokens) / kPageTokens + 2;
    VX_ASSIGN(pool_, StatePool::Create(StateLayout::For(model_.config(), model_.numerics()), 1, pages, &device_));
    VX_TRY(FillState());
    VX_ASSIGN(SequenceState sequence, pool_->NewSequence());
    VX_TRY(pool_->Reserve(sequence, options_.context));
    pool_->Advance(sequence, options_.context);
    const Dims logits = {head_ ? 1 : 0, model_.config().vocab_size};
    VX_ASSIGN(logit_memory_, DeviceBuffer::Create(device_, size_t(model_.config().vocab_size) * sizeof(float)));
    logits_ = MutTensorView(logit_memory_.data(), DType::kF32, logits, ctx_.device);
    std::mt19937 rng(1);
    for (int i = 0; i < kSteps; ++i) {
      std::vector<int32_t> ids(static_cast<size_t>(tokens));
      for (int32_t& id : ids) id = int32_t(rng() % uint32_t(model_.config().vocab_size));
      const SequenceChunk chunk{&sequence, ids, head_ ? LogitRows::kLast : LogitRows::kNone};
      VX_ASSIGN(const StepBatch batch, BuildStep(*pool_, {&chunk, 1}, model_.config().vocab_size));
      Step& step = steps_.emplace_back();
      std::vector<std::byte> packed(PackedBytes(batch));
      VX_ASSIGN(step.metadata, DeviceBuffer::Create(device_, packed.size()));
      step.tensors = Pack(batch, packed.data(), step.metadata.data(), ctx_.device);
      VX_TRY(device_.CopyIn(step.metadata.data(), packed.data(), packed.size(), device_.stream()));
      VX_TRY(device_.Synchronize(device_.stream()));
    }
    return {};
  }

  // Random rows stand for a context that no step has computed.
  Status FillState() {
    std::mt19937 rng(2);
    std::vector<std::byte> host;
    for (size_t l = 0; l < pool_->layout().layers.size(); ++l) {
      const StatePool::LayerViews& v = pool_->layer(int64_t(l));
      for (const MutTensorView& part : {v.window, v.overlap, v.index_overlap, v.running, v.entries, v.index_keys}) {
        if (part.empty() || part.Bytes() == 0) continue;
        host.resize(size_t(part.Bytes()));
        const int64_t count = part.dims().Count();
        for (int64_t i = 0; i < count; ++i) {
          const float value = float(int32_t(rng())) * 0x1p-32f;
          part.dtype() == DType::kF32 ? void(reinterpret_cast<float*>(host.data())[i] = value)
                                      : void(reinterpret_cast<BF16*>(host.data())[i] = BF16::From(value));
        }
        VX_TRY(device_.CopyIn(part.mut_raw(), host.data(), host.size(), device_.stream()));
        VX_TRY(device_.Synchronize(device_.stream()));
      }
    }
    return {};
  }

  Status Forward(const Step& step, OpTrace* trace) {
    Context ctx = ctx_;
    ctx.trace = trace;
    return model_.Forward(ctx, *pool_, step.tensors, logits_);
  }

  // Call by call. The first step loads kernels and grows the arena.
  Status TimeCalls(DeviceLimits& limits, LayerBenchRow& row) {
    EventList events(device_);
    TimeTrace time(events);
    VX_TRY(Forward(steps_[0], nullptr));
    for (const Step& step : steps_) {
      CostTrace costs(device_);
      VX_TRY(Forward(step, &costs));
      VX_TRY(costs.TakeStatus());
      events.Rewind();
      // The pass keeps the device busy while the step is launched.
      VX_TRY(limits.StartRead());
      VX_TRY(limits.StartRead());
      VX_TRY(Forward(step, &time));
      VX_TRY(device_.Synchronize(device_.stream()));
      VX_ASSIGN(const double read, limits.ReadBandwidth());
      for (size_t i = 0; i < costs.calls().size(); ++i) {
        const CostTrace::Call& call = costs.calls()[i];
        OpShare& share = row.kernels[call.kernel];
        VX_ASSIGN(const double seconds, events.Seconds(2 * i));
        share.seconds += seconds / kSteps;
        share.floor += limits.FloorOf(call.cost, read) / kSteps;
        share.bytes += call.cost.bytes / kSteps;
        share.flops += call.cost.flops / kSteps;
        share.calls += 1.0 / kSteps;
      }
    }
    for (const auto& [kernel, share] : row.kernels) row.floor += share.floor;
    return {};
  }

  Status Capture() {
    for (Step& step : steps_) {
      VX_TRY(device_.BeginCapture(device_.stream()));
      Status captured = Forward(step, nullptr);
      Result<Device::GraphHandle> graph = device_.EndCapture(device_.stream());
      VX_TRY(std::move(captured));
      VX_ASSIGN(step.graph, std::move(graph));
    }
    return {};
  }

  Status TimeGraphs(DeviceLimits& limits, LayerBenchRow& row, const std::atomic<bool>& cancelled) {
    EventList events(device_);
    std::vector<double> seconds, read;
    for (int i = 0; i < kReplays; ++i) {
      if (cancelled.load()) return Cancelled("interrupted");
      events.Rewind();
      VX_TRY(limits.StartRead());
      VX_TRY(events.Record());
      VX_TRY(device_.Launch(steps_[size_t(i % kSteps)].graph, device_.stream()));
      VX_TRY(events.Record());
      VX_TRY(device_.Synchronize(device_.stream()));
      VX_ASSIGN(const double bandwidth, limits.ReadBandwidth());
      VX_ASSIGN(const double taken, events.Seconds(0));
      if (i < kSteps) continue;  // the first replay of a graph uploads it
      read.push_back(bandwidth);
      seconds.push_back(taken);
    }
    row.timing = Summarize(std::move(seconds));
    const auto middle = read.begin() + std::ptrdiff_t(read.size() / 2);
    std::nth_element(read.begin(), middle, read.end());
    row.read_bandwidth = *middle;
    return {};
  }

  const Model& model_;
  Device& device_;
  const LayerBenchOptions& options_;
  bool head_;
  Arena workspace_;
  Context ctx_;
  std::unique_ptr<StatePool> pool_;
  DeviceBuffer logit_memory_;
  MutTensorView logits_;
  std::deque<Step> steps_;
};

}  // namespace

Status BenchLayersOnDevice(DeviceId device, const LayerBenchOptions& options,
                           const std::function<void(const LayerBenchRow&)>& on_row,
                           const std::function<void(const std::string&)>& on_progress,
                           const std::atomic<bool>& cancelled) {
  const auto run = [&](std::string_view name, int64_t layers, bool head, const ModelConfig& config) -> Status {
    on_progress("timing " + std::string(name));
    LayerBenchRow row;
    row.name = name;
    row.layers = layers;
    row.tokens = options.tokens;
    row.context = options.context;
    ModelOptions made;
    made.device = device;
    VX_ASSIGN(const std::unique_ptr<Model> model, Model::Synthetic(config, 1, made));
    LayerOnDevice bench(*model, options, head);
    VX_TRY(bench.Run(row, cancelled));
    on_row(row);
    return {};
  };
  for (const LayerKind& kind : kLayerKinds) VX_TRY(run(kind.name, kind.layers, false, LayerConfig(kind.ratio)));
  return run("head", 1, true, HeadConfig());
}

}  // namespace vexil
