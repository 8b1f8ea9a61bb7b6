#include "model/upload.h"

#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"

namespace vexil {
namespace {

constexpr size_t kStaging = size_t(64) << 20;
constexpr size_t kGrain = size_t(1) << 20;  // bytes that one thread reads at a time

// A run of bytes of a tensor, by its place in the staging buffer.
struct Piece {
  const char* from;
  size_t to, bytes;
};

// Two pinned buffers in turn: one is filled while the other is copied.
class Stager {
 public:
  explicit Stager(Device& device) : device_(device) {}
  ~Stager() {
    for (Slot& s : slots_) {
      if (s.copied) device_.DeleteEvent(s.copied);
    }
  }
  Status Start() {
    for (Slot& s : slots_) {
      VX_ASSIGN(s.memory, PinnedBuffer::Create(device_, kStaging));
      VX_ASSIGN(s.copied, device_.NewEvent());
    }
    return {};
  }

  // Adds bytes for an address behind those before.
  Status Add(char* device, const char* from, size_t bytes) {
    while (bytes > 0) {
      if (base_ == nullptr) base_ = device;
      const size_t at = size_t(device - base_);
      if (at >= kStaging) {
        VX_TRY(Flush());
        continue;
      }
      const size_t part = std::min(bytes, kStaging - at);
      for (size_t i = 0; i < part; i += kGrain) pieces_.push_back({from + i, at + i, std::min(kGrain, part - i)});
      used_ = at + part;
      device += part, from += part, bytes -= part;
    }
    return {};
  }
  Status Flush() {
    if (used_ == 0) return {};
    Slot& s = slots_[turn_++ % 2];
    if (s.busy) VX_TRY(device_.Wait(s.copied));
    char* staging = static_cast<char*>(s.memory.data());
    threads_.For(int64_t(pieces_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(staging + pieces_[size_t(i)].to, pieces_[size_t(i)].from, pieces_[size_t(i)].bytes);
    });
    VX_TRY(device_.CopyIn(base_, staging, used_, device_.stream()));
    VX_TRY(device_.Record(s.copied, device_.stream()));
    s.busy = true;
    pieces_.clear();
    used_ = 0;
    base_ = nullptr;
    return {};
  }

 private:
  struct Slot {
    PinnedBuffer memory;
    Device::EventHandle copied = nullptr;
    bool busy = false;
  };
  Device& device_;
  ThreadPool threads_{ThreadPool::AvailableProcessors()};
  Slot slots_[2];
  int turn_ = 0;
  char* base_ = nullptr;  // device address of the staging buffer's first byte
  size_t used_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace

int64_t BytesOnDevice(const TensorView& tensor) {
  constexpr int64_t kAlign = int64_t(Arena::kDeviceAlign);
  return (tensor.Bytes() + kAlign - 1) / kAlign * kAlign;
}

Result<DeviceBuffer> Upload(Device& device, std::span<TensorView* const> tensors) {
  size_t total = 0;
  for (const TensorView* t : tensors) {
    VX_CHECK(t->IsContiguous(), "only contiguous tensors are uploaded");
    total += size_t(BytesOnDevice(*t));
  }
  VX_ASSIGN(DeviceBuffer memory, DeviceBuffer::Create(device, total));
  Stager stager(device);
  VX_TRY(stager.Start());
  char* at = static_cast<char*>(memory.data());
  for (const TensorView* t : tensors) {
    VX_TRY(stager.Add(at, static_cast<const char*>(t->raw()), size_t(t->Bytes())));
    at += BytesOnDevice(*t);
  }
  VX_TRY(stager.Flush());
  VX_TRY(device.Synchronize(device.stream()));
  at = static_cast<char*>(memory.data());
  for (TensorView* t : tensors) {
    *t = TensorView(at, t->dtype(), t->dims(), device.caps().id);
    at += BytesOnDevice(*t);
  }
  return memory;
}

}  // namespace vexil
