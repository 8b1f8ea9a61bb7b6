// An accelerator without a chip, so that every machine can test what the model and the engine do with one. Its memory
// is host memory that only copies and kernels may touch, as on a real device: anything else that reads or writes it is
// stopped by the processor. What it copies out arrives only when it is waited for. Its kernels are the CPU's. It has no
// graphs.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "device/device.h"
#include "ops/op.h"

namespace vexil {

class SimulatedDevice : public Device {
 public:
  static constexpr int64_t kMemory = int64_t(4) << 30;
  // Without its guard it is many times faster.
  explicit SimulatedDevice(int64_t memory_bytes = kMemory, bool guarded = true);
  ~SimulatedDevice() override;

  // For Context::trace, without which no kernel may run: opens the memory while one does. Null for other devices.
  static OpTrace* TraceOf(Device* device);

  Result<void*> Allocate(size_t bytes) override;
  void Free(void* memory) override;
  Result<void*> AllocatePinned(size_t bytes) override;
  void FreePinned(void* memory) override;
  int64_t FreeBytes() const override;

  Result<StreamHandle> NewStream() override;
  void DeleteStream(StreamHandle) override {}
  Status Synchronize(StreamHandle) override;

  Status CopyIn(void* device, const void* host, size_t bytes, StreamHandle) override;
  Status CopyOut(void* host, const void* device, size_t bytes, StreamHandle) override;
  Status CopyWithin(void* to, const void* from, size_t bytes, StreamHandle) override;
  Status Fill(void* device, uint8_t byte, size_t bytes, StreamHandle) override;

  Result<EventHandle> NewEvent() override;
  void DeleteEvent(EventHandle) override {}
  Status Record(EventHandle, StreamHandle) override { return {}; }
  Status Wait(EventHandle) override { return Synchronize(stream_); }
  Result<double> Seconds(EventHandle, EventHandle) override { return 0.0; }

  Status BeginCapture(StreamHandle) override;
  Result<GraphHandle> EndCapture(StreamHandle) override;
  Status Launch(GraphHandle, StreamHandle) override;
  void DeleteGraph(GraphHandle) override {}

 private:
  // The memory can be touched while one exists.
  class Access {
   public:
    explicit Access(SimulatedDevice& device) : device_(device) { device_.Open(); }
    ~Access() { device_.Close(); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    SimulatedDevice& device_;
  };
  class Trace : public OpTrace {
   public:
    explicit Trace(SimulatedDevice& device) : device_(device) {}
    void OnStart() override { device_.Open(); }
    void OnEnd(std::string_view, std::string_view, const void*) override { device_.Close(); }

   private:
    SimulatedDevice& device_;
  };
  void Open();
  void Close();
  void Protect(int protection);

  // On its way to the host.
  struct CopiedOut {
    void* host;
    std::vector<char> bytes;
  };

  mutable std::mutex mutex_;
  std::map<void*, size_t> blocks_;  // their bytes in pages
  std::vector<CopiedOut> copied_out_;
  int64_t free_bytes_;
  int open_;  // how many use the memory now
  Trace trace_{*this};
};

}  // namespace vexil
