#include "model/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "io/safetensors.h"
#include "io/safetensors_writer.h"

namespace vexil {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::span<const uint8_t> BytesOf(const TensorView& v) {
  return {static_cast<const uint8_t*>(v.raw()), size_t(v.Bytes())};
}

}  // namespace

StateLayout StateLayout::For(const ModelConfig& config, const Numerics& numerics) {
  StateLayout l;
  for (int64_t ratio : config.compress_ratios) l.layers.push_back({ratio, ratio == 0 ? 0 : kPageTokens / ratio});
  l.dtype = numerics.activation;
  l.head_dim = config.head_dim;
  l.index_head_dim = config.index_head_dim;
  l.window_capacity = config.window + kMaxRollback;
  l.overlap_capacity = 2 * kOverlapRatio + kMaxRollback;
  l.running_capacity = 1 + kMaxRollback;
  return l;
}

int64_t StateLayout::TailBytes() const {
  int64_t bytes = 0;
  for (const Layer& layer : layers) {
    bytes += window_capacity * head_dim * vexil::BytesOf(dtype);
    if (layer.ratio == kOverlapRatio)
      bytes += overlap_capacity * 2 * 2 * (head_dim + index_head_dim) * int64_t(sizeof(float));
    if (layer.ratio != 0 && layer.ratio != kOverlapRatio)
      bytes += running_capacity * 3 * head_dim * int64_t(sizeof(float));
  }
  return bytes;
}

int64_t StateLayout::PageBytes() const {
  int64_t bytes = 0;
  for (const Layer& layer : layers) {
    const int64_t width = head_dim + (layer.ratio == kOverlapRatio ? index_head_dim : 0);
    bytes += layer.entries_per_page * width * vexil::BytesOf(dtype);
  }
  return bytes;
}

Status StatePool::Map(MutTensorView& view, DType dtype, Dims dims) {
  const size_t bytes = std::max<size_t>(size_t(dims.Count() * vexil::BytesOf(dtype)), 1);
  if (device_) {
    Result<DeviceBuffer> buffer = DeviceBuffer::Create(*device_, bytes);
    if (!buffer.ok()) return std::move(buffer).TakeError().Prefix("sequence state");
    VX_TRY(device_->Fill(buffer->data(), 0, bytes, device_->stream()));
    view = MutTensorView(buffer->data(), dtype, dims, device_->caps().id);
    device_memory_.push_back(*std::move(buffer));
    return {};
  }
  HostMemory memory = HostMemory::Allocate(bytes);
  if (memory.data() == nullptr) {
    return ResourceExhausted(
        fmt::format("sequence state: cannot map {} bytes; use fewer sequences or a shorter context", bytes));
  }
  view = MutTensorView(memory.data(), dtype, dims);
  memory_.push_back(std::move(memory));
  return {};
}

Status StatePool::Copy(const MutTensorView& to, const TensorView& from) {
  if (device_) return device_->CopyWithin(to.mut_raw(), from.raw(), size_t(from.Bytes()), device_->stream());
  std::memcpy(to.mut_raw(), from.raw(), size_t(from.Bytes()));
  return {};
}

Result<std::unique_ptr<StatePool>> StatePool::Create(const StateLayout& l, int64_t max_sequences, int64_t max_pages,
                                                     Device* device) {
  std::unique_ptr<StatePool> pool(new StatePool);
  pool->device_ = device;
  pool->layout_ = l;
  pool->max_sequences_ = max_sequences;
  pool->layers_.resize(l.layers.size());
  for (size_t i = 0; i < l.layers.size(); ++i) {
    const int64_t ratio = l.layers[i].ratio, rows = max_pages * l.layers[i].entries_per_page;
    LayerViews& v = pool->layers_[i];
    VX_TRY(pool->Map(v.window, l.dtype, {max_sequences, l.window_capacity, l.head_dim}));
    if (ratio == 0) continue;
    VX_TRY(pool->Map(v.entries, l.dtype, {rows, l.head_dim}));
    if (ratio != kOverlapRatio) {
      VX_TRY(pool->Map(v.running, DType::kF32, {max_sequences, l.running_capacity, 3, l.head_dim}));
      continue;
    }
    VX_TRY(pool->Map(v.index_keys, l.dtype, {rows, l.index_head_dim}));
    VX_TRY(pool->Map(v.overlap, DType::kF32, {max_sequences, l.overlap_capacity, 2, 2 * l.head_dim}));
    VX_TRY(pool->Map(v.index_overlap, DType::kF32, {max_sequences, l.overlap_capacity, 2, 2 * l.index_head_dim}));
  }
  for (int64_t s = max_sequences; s-- > 0;) pool->free_slots_.push_back(int32_t(s));
  for (int64_t p = max_pages; p-- > 0;) pool->free_pages_.push_back(int32_t(p));
  pool->page_users_.assign(size_t(max_pages), 0);
  return pool;
}

Result<SequenceState> StatePool::NewSequence() {
  if (free_slots_.empty()) return ResourceExhausted(fmt::format("all {} sequences are in use", max_sequences_));
  SequenceState s;
  s.slot = free_slots_.back();
  free_slots_.pop_back();
  return s;
}

void StatePool::Free(SequenceState& s) {
  for (int32_t page : s.pages) DropPage(page);
  free_slots_.push_back(s.slot);
  s = SequenceState();
}

Result<int32_t> StatePool::TakePage() {
  if (free_pages_.empty())
    return ResourceExhausted(fmt::format("all {} pages of {} tokens are in use", page_users_.size(), kPageTokens));
  const int32_t page = free_pages_.back();
  free_pages_.pop_back();
  page_users_[size_t(page)] = 1;
  return page;
}

void StatePool::DropPage(int32_t page) {
  if (--page_users_[size_t(page)] == 0) free_pages_.push_back(page);
}

Status StatePool::Reserve(SequenceState& s, int64_t count) {
  const int64_t first = s.length / kPageTokens, end = CeilDiv(s.length + count, kPageTokens);
  for (int64_t i = first; i < end; ++i) {
    if (i == int64_t(s.pages.size())) {
      VX_ASSIGN(const int32_t page, TakePage());
      s.pages.push_back(page);
    } else {
      VX_TRY(OwnPage(s, size_t(i)));
    }
  }
  return {};
}

Status StatePool::OwnPage(SequenceState& s, size_t i) {
  if (page_users_[size_t(s.pages[i])] == 1) return {};
  VX_ASSIGN(const int32_t page, TakePage());
  const int32_t shared = std::exchange(s.pages[i], page);
  std::vector<MutTensorView> to;
  ForPage(page, [&](const std::string&, MutTensorView v) { to.push_back(v); });
  size_t part = 0;
  Status copied;
  ForPage(shared, [&](const std::string&, MutTensorView v) {
    if (copied.ok()) copied = Copy(to[part++], v);
  });
  DropPage(shared);
  return copied;
}

void StatePool::Advance(SequenceState& s, int64_t count) {
  s.length += count;
  s.high_water = std::max(s.high_water, s.length);
}

Status StatePool::RollBack(SequenceState& s, int64_t count) {
  if (count < 0 || count > s.length) {
    return InvalidArgument(fmt::format("roll-back of {} tokens, expected 0 to {}", count, s.length));
  }
  if (count != s.length && s.high_water - (s.length - count) > kMaxRollback) {
    return InvalidArgument(fmt::format("roll-back to {} tokens after {}, expected at most {} back", s.length - count,
                                       s.high_water, kMaxRollback));
  }
  s.length -= count;
  if (s.length == 0) s.high_water = 0;
  const size_t pages = size_t(CeilDiv(s.length, kPageTokens));
  while (s.pages.size() > pages) {
    DropPage(s.pages.back());
    s.pages.pop_back();
  }
  return {};
}

template <class F>
void StatePool::ForTail(int32_t slot, F&& f) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerViews& v = layers_[i];
    const auto part = [&](const char* name, const MutTensorView& t) {
      if (!t.empty()) f(fmt::format("layers.{}.{}", i, name), t.Rows(slot, slot + 1));
    };
    part("window", v.window);
    part("overlap", v.overlap);
    part("index_overlap", v.index_overlap);
    part("running", v.running);
  }
}

template <class F>
void StatePool::ForPage(int32_t page, F&& f) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const int64_t n = layout_.layers[i].entries_per_page;
    const auto part = [&](const char* name, const MutTensorView& t) {
      if (!t.empty()) f(fmt::format("layers.{}.{}", i, name), t.Rows(page * n, (page + 1) * n));
    };
    part("entries", layers_[i].entries);
    part("index_keys", layers_[i].index_keys);
  }
}

Result<SequenceState> StatePool::Fork(const SequenceState& s) {
  VX_ASSIGN(SequenceState copy, NewSequence());
  std::vector<MutTensorView> to;
  ForTail(copy.slot, [&](const std::string&, MutTensorView v) { to.push_back(v); });
  size_t part = 0;
  Status copied;
  ForTail(s.slot, [&](const std::string&, MutTensorView v) {
    if (copied.ok()) copied = Copy(to[part++], v);
  });
  if (!copied.ok()) {
    Free(copy);
    return copied;
  }
  copy.length = s.length;
  copy.high_water = s.high_water;
  copy.pages = s.pages;
  for (int32_t page : copy.pages) ++page_users_[size_t(page)];
  return copy;
}

Result<SequenceState> StatePool::Duplicate(const SequenceState& s) {
  VX_ASSIGN(SequenceState copy, Fork(s));
  for (size_t i = 0; i < copy.pages.size(); ++i) {
    Status own = OwnPage(copy, i);
    if (own.ok()) continue;
    Free(copy);
    return own;
  }
  return copy;
}

Status StatePool::Save(const SequenceState& s, const std::string& path) const {
  std::vector<TensorDeclaration> declared;
  std::vector<MutTensorView> parts;
  const auto add = [&](const std::string& name, const MutTensorView& v) {
    declared.push_back({name, v.dtype(), v.dims()});
    parts.push_back(v);
  };
  ForTail(s.slot, [&](const std::string& name, MutTensorView v) { add("tail." + name, v); });
  const size_t pages = size_t(CeilDiv(s.length, kPageTokens));  // there may be more, reserved for a step that failed
  for (size_t i = 0; i < pages; ++i) {
    ForPage(s.pages[i], [&](const std::string& name, MutTensorView v) { add(fmt::format("pages.{}.{}", i, name), v); });
  }
  // Wide element types first keeps every tensor aligned in the file.
  std::vector<size_t> order(parts.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return vexil::BytesOf(declared[a].dtype) > vexil::BytesOf(declared[b].dtype);
  });
  std::vector<TensorDeclaration> sorted;
  for (size_t i : order) sorted.push_back(declared[i]);
  const SafetensorsMetadata metadata = {{"format", "vexil sequence state"},
                                        {"length", std::to_string(s.length)},
                                        {"high_water", std::to_string(s.high_water)}};
  VX_ASSIGN(SafetensorsWriter writer, SafetensorsWriter::Create(path, sorted, metadata));
  std::vector<uint8_t> staging;
  for (size_t i : order) {
    std::span<const uint8_t> bytes = BytesOf(parts[i]);
    if (device_) {
      staging.resize(bytes.size());
      VX_TRY(device_->CopyOut(staging.data(), bytes.data(), bytes.size(), device_->stream()));
      VX_TRY(device_->Synchronize(device_->stream()));
      bytes = staging;
    }
    VX_TRY(writer.Write(declared[i].name, bytes));
  }
  return writer.Finish();
}

Result<SequenceState> StatePool::Restore(const std::string& path) {
  VX_ASSIGN(const SafetensorsFile file, SafetensorsFile::Open(path));
  const auto number = [&](const char* key) -> int64_t {
    const auto it = file.metadata().find(key);
    if (it == file.metadata().end() || it->second.empty() || it->second.size() > 12) return -1;
    int64_t v = 0;
    for (char c : it->second) {
      if (c < '0' || c > '9') return -1;
      v = v * 10 + (c - '0');
    }
    return v;
  };
  const int64_t length = number("length"), high_water = number("high_water");
  if (length < 0 || high_water < length)
    return DataLoss(fmt::format("{}: no valid length, expected a saved sequence state", path));
  if (CeilDiv(length, kPageTokens) > int64_t(page_users_.size())) {
    return ResourceExhausted(fmt::format("{}: found {} tokens, expected at most {}", path, length,
                                         int64_t(page_users_.size()) * kPageTokens));
  }
  VX_ASSIGN(SequenceState s, NewSequence());
  Status status = Reserve(s, length);
  size_t used = 0;
  const auto copy = [&](const std::string& name, MutTensorView v) {
    if (!status.ok()) return;
    const TensorInfo* info = file.Find(name);
    if (info == nullptr || info->dtype != v.dtype() || info->dims != v.dims()) {
      status = InvalidArgument(fmt::format(
          "{}: tensor '{}' is missing or has another shape: saved by another model or data format", path, name));
      return;
    }
    if (device_) {
      status = device_->CopyIn(v.mut_raw(), info->view.raw(), size_t(v.Bytes()), device_->stream());
    } else {
      std::memcpy(v.mut_raw(), info->view.raw(), size_t(v.Bytes()));
    }
    ++used;
  };
  ForTail(s.slot, [&](const std::string& name, MutTensorView v) { copy("tail." + name, v); });
  for (size_t i = 0; i < s.pages.size(); ++i) {
    ForPage(s.pages[i],
            [&](const std::string& name, MutTensorView v) { copy(fmt::format("pages.{}.{}", i, name), v); });
  }
  if (status.ok() && used != file.tensors().size())
    status = InvalidArgument(fmt::format("{}: holds tensors of another model", path));
  if (status.ok() && device_) status = device_->Synchronize(device_->stream());  // the file is unmapped after this
  if (!status.ok()) {
    Free(s);
    return status;
  }
  s.length = length;
  s.high_water = high_water;
  return s;
}

}  // namespace vexil
