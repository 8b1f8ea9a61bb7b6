// What an accelerator is: its capabilities, memory, streams, events and graphs.
//
//   VX_ASSIGN(std::unique_ptr<Device> gpu, OpenDevice({DeviceKind::kCuda, 0}));
//   VX_ASSIGN(DeviceBuffer buffer, DeviceBuffer::Create(*gpu, bytes));
//   VX_TRY(gpu->CopyIn(buffer.data(), host, bytes, gpu->stream()));
//
// The CPU is not a Device: a Context without one computes in host memory. A build without a kind of chip still has
// these functions; opening one then is an error that says so.
//
// Work on a stream runs in order and asynchronously; streams are opaque handles of the vendor's runtime. A Device may
// be used from several threads. Errors: kUnavailable (no device, no driver, a kernel that failed),
// kResourceExhausted (memory), kUnsupported (this build).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/arena.h"
#include "base/status.h"
#include "base/tensor.h"

namespace vexil {

struct DeviceCaps {
  DeviceId id;
  std::string name;          // "NVIDIA H200"
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int warp = 32;  // threads that execute together: 32, or 64 on some AMD chips
  int64_t memory_bytes = 0;
  int64_t free_bytes = 0;  // when the device was opened or listed
  int64_t l2_bytes = 0;
  int64_t shared_bytes = 0;  // of one block, at most
  int clock_khz = 0, memory_clock_khz = 0, memory_bus_bits = 0;
  std::string pci;  // "0000:17:00.0"
};

using StreamHandle = void*;

class Device : public BlockSource {
 public:
  const DeviceCaps& caps() const { return caps_; }
  DeviceId device() const final { return caps_.id; }
  // The stream that steps run on.
  StreamHandle stream() const { return stream_; }

  // Device memory, aligned to 256 bytes, not initialised. kResourceExhausted names the size and what is free.
  virtual Result<void*> Allocate(size_t bytes) = 0;
  virtual void Free(void* memory) = 0;
  // Host memory that the device copies from and to at full speed.
  virtual Result<void*> AllocatePinned(size_t bytes) = 0;
  virtual void FreePinned(void* memory) = 0;
  virtual int64_t FreeBytes() const = 0;

  virtual Result<StreamHandle> NewStream() = 0;
  virtual void DeleteStream(StreamHandle stream) = 0;
  // Waits for everything on the stream and reports what failed on it.
  virtual Status Synchronize(StreamHandle stream) = 0;

  // Copies on a stream. Host memory must stay alive until they are done, and be pinned for them to be asynchronous.
  virtual Status CopyIn(void* device, const void* host, size_t bytes, StreamHandle stream) = 0;
  virtual Status CopyOut(void* host, const void* device, size_t bytes, StreamHandle stream) = 0;
  virtual Status CopyWithin(void* to, const void* from, size_t bytes, StreamHandle stream) = 0;
  virtual Status Fill(void* device, uint8_t byte, size_t bytes, StreamHandle stream) = 0;

  // Points in a stream's work.
  using EventHandle = void*;
  virtual Result<EventHandle> NewEvent() = 0;
  virtual void DeleteEvent(EventHandle event) = 0;
  virtual Status Record(EventHandle event, StreamHandle stream) = 0;
  virtual Status Wait(EventHandle event) = 0;                              // the host waits
  virtual Result<double> Seconds(EventHandle begin, EventHandle end) = 0;  // between two that have happened

  // A graph holds the work that was issued to a stream between Begin and End, without running it, and replays it.
  using GraphHandle = void*;
  virtual Status BeginCapture(StreamHandle stream) = 0;
  virtual Result<GraphHandle> EndCapture(StreamHandle stream) = 0;
  virtual Status Launch(GraphHandle graph, StreamHandle stream) = 0;
  virtual void DeleteGraph(GraphHandle graph) = 0;

  // BlockSource: device memory for arenas.
  void* AllocateBlock(size_t bytes) final {
    Result<void*> p = Allocate(bytes);
    return p.ok() ? *p : nullptr;
  }
  void FreeBlock(void* block) final { Free(block); }

 protected:
  DeviceCaps caps_;
  StreamHandle stream_ = nullptr;
};

// Owns device memory.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  static Result<DeviceBuffer> Create(Device& device, size_t bytes) {
    VX_ASSIGN(void* p, device.Allocate(bytes));
    return DeviceBuffer(device, p, bytes);
  }
  void* data() const { return memory_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    Device* device;
    void operator()(void* p) const { device->Free(p); }
  };
  DeviceBuffer(Device& device, void* p, size_t bytes) : memory_(p, Free{&device}), bytes_(bytes) {}
  std::unique_ptr<void, Free> memory_{nullptr, Free{nullptr}};
  size_t bytes_ = 0;
};

// Owns pinned host memory.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  static Result<PinnedBuffer> Create(Device& device, size_t bytes) {
    VX_ASSIGN(void* p, device.AllocatePinned(bytes));
    return PinnedBuffer(device, p, bytes);
  }
  void* data() const { return memory_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    Device* device;
    void operator()(void* p) const { device->FreePinned(p); }
  };
  PinnedBuffer(Device& device, void* p, size_t bytes) : memory_(p, Free{&device}), bytes_(bytes) {}
  std::unique_ptr<void, Free> memory_{nullptr, Free{nullptr}};
  size_t bytes_ = 0;
};

// "cpu", "cuda", "cuda:1". kInvalidArgument for anything else.
Result<DeviceId> ParseDevice(std::string_view text);
std::string NameOf(DeviceId id);

// Opens an accelerator. The CPU is not one (kInvalidArgument).
Result<std::unique_ptr<Device>> OpenDevice(DeviceId id);

// The accelerators of one kind, or why there are none.
struct DeviceList {
  DeviceKind kind;
  std::vector<DeviceCaps> devices;
  std::string reason;  // set when the list is empty: "the NVIDIA driver is not installed (...)"
};
std::vector<DeviceList> ListDevices();

}  // namespace vexil
