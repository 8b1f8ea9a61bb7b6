#include "model/expert_cache.h"

#include <fmt/format.h>

#include <algorithm>

namespace vexil {
namespace {

// The same tensors in another block of memory.
TensorView Moved(const TensorView& v, const void* from, const void* to, DeviceId device) {
  if (v.empty()) return v;
  const auto offset = static_cast<const char*>(v.raw()) - static_cast<const char*>(from);
  return TensorView(static_cast<const char*>(to) + offset, v.dtype(), v.dims(), device);
}
void Move(QuantView& q, const void* from, const void* to, DeviceId device) {
  q.data = Moved(q.data, from, to, device);
  q.scale = Moved(q.scale, from, to, device);
}

}  // namespace

Result<std::unique_ptr<ExpertCache>> ExpertCache::Create(Device& device, const ModelWeights& weights) {
  const ExpertPlacement& placement = weights.placement();
  VX_CHECK(!placement.all_resident(), "no expert is in host memory");
  std::unique_ptr<ExpertCache> c(new ExpertCache(device));
  c->slot_bytes_ = placement.slot_bytes;
  c->slots_.resize(size_t(placement.slots));
  VX_ASSIGN(c->memory_, DeviceBuffer::Create(device, size_t(placement.slots * placement.slot_bytes)));
  VX_ASSIGN(c->offsets_, PinnedBuffer::Create(device, size_t(placement.experts_per_layer + 1) * sizeof(int32_t)));
  VX_ASSIGN(c->asked_, device.NewEvent());
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    const MoeWeights& w = weights.layers[l].moe;
    Layer& layer = c->layers_.emplace_back();
    layer.resident = placement.resident[l];
    if (layer.resident == placement.experts_per_layer) continue;
    layer.expert_bytes = ExpertBytes(w, layer.resident);
    layer.slot.assign(size_t(placement.experts_per_layer - layer.resident), -1);
    layer.w1 = w.w1, layer.w3 = w.w3, layer.w2 = w.w2;
    for (int64_t e = layer.resident; e < placement.experts_per_layer; ++e) {
      layer.host.push_back(w.w1[size_t(e)].data.raw());
      c->Point(layer, e - layer.resident, 0);
    }
  }
  return c;
}

ExpertCache::~ExpertCache() {
  if (asked_) device_.DeleteEvent(asked_);
}

Result<ExpertCache::Use> ExpertCache::Begin(const Context& ctx, int64_t layer, TensorView offsets) {
  VX_CHECK(ctx.stream == device_.stream(), "steps with host experts run on the device's own stream");
  Use use(*this, layer);
  VX_CHECK(size_t(offsets.Bytes()) == offsets_.bytes(), "one offset per expert and one more");
  VX_TRY(device_.CopyOut(offsets_.data(), offsets.raw(), offsets_.bytes(), ctx.stream));
  VX_TRY(device_.Record(asked_, ctx.stream));
  return use;
}

Result<ExpertLists> ExpertCache::Bring(int64_t index) {
  Layer& layer = layers_[size_t(index)];
  VX_TRY(device_.Wait(asked_));
  const int32_t* offsets = static_cast<const int32_t*>(offsets_.data()) + layer.resident;
  ++now_;
  std::vector<int64_t> missing;
  // Those that are there first, so that no copy takes their slots.
  for (int64_t i = 0; i < int64_t(layer.host.size()); ++i) {
    if (offsets[i] == offsets[i + 1]) continue;
    if (const int32_t slot = layer.slot[size_t(i)]; slot >= 0) {
      slots_[size_t(slot)].last_use = now_;
      ++statistics_.hits;
    } else {
      missing.push_back(i);
    }
  }
  for (int64_t i : missing) VX_TRY(Fetch(index, i));
  return ExpertLists{layer.w1, layer.w3, layer.w2};
}

// Takes the slot that has been idle longest.
Status ExpertCache::Fetch(int64_t index, int64_t host_expert) {
  Layer& layer = layers_[size_t(index)];
  const auto slot = std::min_element(slots_.begin(), slots_.end(),
                                     [](const Slot& a, const Slot& b) { return a.last_use < b.last_use; });
  VX_CHECK(slot->last_use < now_, "there is a slot for each host expert of a layer");
  if (slot->layer >= 0) layers_[size_t(slot->layer)].slot[size_t(slot->host_expert)] = -1;
  slot->layer = -1;  // until the copy is on its way
  const int64_t at = slot - slots_.begin();
  VX_TRY(device_.CopyIn(Address(at), layer.host[size_t(host_expert)], size_t(layer.expert_bytes), device_.stream()));
  *slot = {int32_t(index), int32_t(host_expert), now_};
  layer.slot[size_t(host_expert)] = int32_t(at);
  Point(layer, host_expert, at);
  ++statistics_.misses;
  statistics_.copied_bytes += layer.expert_bytes;
  return {};
}

void ExpertCache::Point(Layer& layer, int64_t host_expert, int64_t slot) {
  const size_t e = size_t(layer.resident + host_expert);
  const void* from = layer.w1[e].data.raw();  // the first tensor of an expert's block
  for (QuantView* q : {&layer.w3[e], &layer.w2[e], &layer.w1[e]}) Move(*q, from, Address(slot), device_.caps().id);
}

ExpertCache::Statistics ExpertCache::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace vexil
