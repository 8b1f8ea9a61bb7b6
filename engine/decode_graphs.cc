#include "engine/decode_graphs.h"

#include <algorithm>
#include <bit>

namespace vexil {
namespace {
constexpr int64_t kShortest = 1024;  // max_length of the smallest shape
}  // namespace

struct DecodeGraphs::Shape {
  Device& device;
  DeviceBuffer metadata, logit_memory;
  PinnedBuffer staging;
  MutTensorView logits;
  Device::EventHandle copied = nullptr;  // the staging buffer is free again
  Device::GraphHandle graph = nullptr;
  int64_t steps = 0;

  ~Shape() {
    if (graph) device.DeleteGraph(graph);
    if (copied) device.DeleteEvent(copied);
  }
};

DecodeGraphs::DecodeGraphs(const Model& model, const Context& ctx, StatePool& pool)
    : model_(model), workspace_(ctx.accelerator), ctx_(ctx), pool_(pool) {
  ctx_.workspace = &workspace_;  // its own: what a graph uses must not be in use by anything else
}

DecodeGraphs::~DecodeGraphs() = default;

bool DecodeGraphs::Serves(std::span<const SequenceChunk> chunks) {
  return std::all_of(chunks.begin(), chunks.end(),
                     [](const SequenceChunk& c) { return c.tokens.size() == 1 && c.logits != LogitRows::kNone; });
}

Result<DecodeGraphs::Shape*> DecodeGraphs::ShapeFor(int64_t sequences, int64_t max_length, const StepBatch& batch) {
  std::unique_ptr<Shape>& slot = shapes_[{sequences, max_length}];
  if (slot) return slot.get();
  Device& device = *ctx_.accelerator;
  std::unique_ptr<Shape> shape(new Shape{device, {}, {}, {}, {}});
  const Dims dims = {sequences, model_.config().vocab_size};
  VX_ASSIGN(shape->metadata, DeviceBuffer::Create(device, PackedBytes(batch)));
  VX_ASSIGN(shape->staging, PinnedBuffer::Create(device, PackedBytes(batch)));
  VX_ASSIGN(shape->logit_memory, DeviceBuffer::Create(device, size_t(dims.Count()) * sizeof(float)));
  VX_ASSIGN(shape->copied, device.NewEvent());
  shape->logits = MutTensorView(shape->logit_memory.data(), DType::kF32, dims, ctx_.device);
  slot = std::move(shape);
  return slot.get();
}

Status DecodeGraphs::Issue(Shape& shape, const StepTensors& tensors) {
  Device& device = *ctx_.accelerator;
  if (shape.steps++ == 0) return model_.Forward(ctx_, pool_, tensors, shape.logits);
  if (shape.graph == nullptr) {
    VX_TRY(device.BeginCapture(ctx_.stream));
    Status captured = model_.Forward(ctx_, pool_, tensors, shape.logits);
    Result<Device::GraphHandle> graph = device.EndCapture(ctx_.stream);
    VX_TRY(std::move(captured));
    if (!graph.ok()) return std::move(graph).TakeError();
    shape.graph = *graph;
  }
  return device.Launch(shape.graph, ctx_.stream);
}

Result<MutTensorView> DecodeGraphs::Step(std::span<const SequenceChunk> chunks) {
  VX_ASSIGN(StepBatch batch, BuildStep(pool_, chunks, model_.config().vocab_size));
  const int32_t longest = *std::max_element(batch.positions.begin(), batch.positions.end()) + 1;
  const int64_t max_length = std::max(kShortest, int64_t(std::bit_ceil(uint64_t(longest))));
  PadDecode(batch, max_length);
  VX_ASSIGN(Shape* const shape, ShapeFor(int64_t(chunks.size()), max_length, batch));
  Device& device = *ctx_.accelerator;
  if (shape->steps > 0) VX_TRY(device.Wait(shape->copied));
  const StepTensors tensors = Pack(batch, shape->staging.data(), shape->metadata.data(), ctx_.device);
  VX_TRY(device.CopyIn(shape->metadata.data(), shape->staging.data(), shape->metadata.bytes(), ctx_.stream));
  VX_TRY(device.Record(shape->copied, ctx_.stream));
  VX_TRY(Issue(*shape, tensors));
  for (const SequenceChunk& c : chunks) pool_.Advance(*c.state, 1);
  return shape->logits;
}

}  // namespace vexil
