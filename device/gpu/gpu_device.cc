#include "device/gpu/gpu_device.h"

#include <fmt/format.h>

#include "device/gpu/gpu_runtime.h"

#define VX_RT VX_GPU_NAME
// Returns from the enclosing function when a call of the runtime fails.
#define VX_GPU_TRY(what, call)                                                         \
  do {                                                                                 \
    if (const Error vx_e = (call); vx_e != kSuccess) return Failed(caps_, what, vx_e); \
  } while (0)

namespace vexil::gpu {
namespace {

Status Failed(const DeviceCaps& caps, const char* what, Error e) {
  VX_RT(GetLastError)();  // or the next launch reports it again
  return Unavailable(fmt::format("{}: {}: {}", NameOf(caps.id), what, VX_RT(GetErrorString)(e)));
}

Result<DeviceCaps> CapsOf(DeviceId id) {
  DeviceCaps caps;
  caps.id = id;
  VX_RT(DeviceProp) p;
  const auto failed = [&](Error e) { return Failed(caps, "cannot read its properties", e); };
  if (const Error e = VX_RT(GetDeviceProperties)(&p, id.index); e != kSuccess) return failed(e);
  const auto attribute = [&](auto which) {
    int v = 0;
    VX_RT(DeviceGetAttribute)(&v, which, id.index);
    return v;
  };
  caps.name = p.name;
  caps.major = p.major;
  caps.minor = p.minor;
  caps.multiprocessors = p.multiProcessorCount;
  caps.warp = p.warpSize;
  caps.memory_bytes = int64_t(p.totalGlobalMem);
  caps.l2_bytes = p.l2CacheSize;
  caps.shared_bytes = int64_t(p.sharedMemPerBlockOptin);
  caps.clock_khz = attribute(VX_RT(DevAttrClockRate));
  caps.memory_clock_khz = attribute(VX_RT(DevAttrMemoryClockRate));
  caps.memory_bus_bits = p.memoryBusWidth;
  caps.pci = fmt::format("{:04x}:{:02x}:{:02x}.0", p.pciDomainID, p.pciBusID, p.pciDeviceID);
  return caps;
}

// The number of devices, or why there is none.
Result<int> Count() {
  int count = 0;
  const Error e = VX_RT(GetDeviceCount)(&count);
  if (e == kSuccess && count > 0) return count;
  VX_RT(GetLastError)();
  int driver = 0;
  VX_RT(DriverGetVersion)(&driver);
  const char* why = driver == 0     ? "no driver is installed"
                    : e == kSuccess ? "the driver reports none"
                                    : VX_RT(GetErrorString)(e);
  return Unavailable(fmt::format("no GPU can be used here: {}", why));
}

class GpuDevice final : public Device {
 public:
  static Result<std::unique_ptr<Device>> Create(DeviceId id) {
    std::unique_ptr<GpuDevice> d(new GpuDevice);
    VX_ASSIGN(d->caps_, CapsOf(id));
    VX_TRY(d->Start());
    return std::unique_ptr<Device>(std::move(d));
  }
  ~GpuDevice() override {
    if (stream_) DeleteStream(stream_);
  }

  Result<void*> Allocate(size_t bytes) override {
    void* p = nullptr;
    VX_TRY(Select());
    if (const Error e = VX_RT(Malloc)(&p, bytes == 0 ? 1 : bytes); e != kSuccess) {
      if (e != VX_RT(ErrorMemoryAllocation)) return Failed(caps_, "cannot allocate memory", e);
      VX_RT(GetLastError)();
      return ResourceExhausted(fmt::format("{}: out of memory: {:.2f} GiB asked for, {:.2f} of {:.2f} GiB free",
                                           NameOf(caps_.id), Gib(int64_t(bytes)), Gib(FreeBytes()),
                                           Gib(caps_.memory_bytes)));
    }
    return p;
  }
  void Free(void* memory) override { VX_RT(Free)(memory); }
  Result<void*> AllocatePinned(size_t bytes) override {
    void* p = nullptr;
    VX_TRY(Select());
    if (VX_RT(MallocHost)(&p, bytes == 0 ? 1 : bytes) != kSuccess) {
      VX_RT(GetLastError)();
      return ResourceExhausted(
          fmt::format("{}: cannot pin {:.2f} GiB of host memory", NameOf(caps_.id), Gib(int64_t(bytes))));
    }
    return p;
  }
  void FreePinned(void* memory) override { VX_RT(FreeHost)(memory); }
  int64_t FreeBytes() const override {
    size_t free = 0, total = 0;
    VX_RT(MemGetInfo)(&free, &total);
    return int64_t(free);
  }

  Result<StreamHandle> NewStream() override {
    Stream s;
    VX_TRY(Select());
    VX_GPU_TRY("cannot make a stream", VX_RT(StreamCreateWithFlags)(&s, VX_RT(StreamNonBlocking)));
    return StreamHandle(s);
  }
  void DeleteStream(StreamHandle stream) override { VX_RT(StreamDestroy)(Stream(stream)); }
  Status Synchronize(StreamHandle stream) override {
    VX_GPU_TRY("work on the device failed", VX_RT(StreamSynchronize)(Stream(stream)));
    return {};
  }

  Status CopyIn(void* device, const void* host, size_t bytes, StreamHandle stream) override {
    return Copy(device, host, bytes, VX_RT(MemcpyHostToDevice), stream);
  }
  Status CopyOut(void* host, const void* device, size_t bytes, StreamHandle stream) override {
    return Copy(host, device, bytes, VX_RT(MemcpyDeviceToHost), stream);
  }
  Status CopyWithin(void* to, const void* from, size_t bytes, StreamHandle stream) override {
    return Copy(to, from, bytes, VX_RT(MemcpyDeviceToDevice), stream);
  }
  Status Fill(void* device, uint8_t byte, size_t bytes, StreamHandle stream) override {
    VX_GPU_TRY("cannot fill memory", VX_RT(MemsetAsync)(device, byte, bytes, Stream(stream)));
    return {};
  }

  Result<EventHandle> NewEvent() override {
    VX_RT(Event_t) event;
    VX_TRY(Select());
    VX_GPU_TRY("cannot make an event", VX_RT(EventCreate)(&event));
    return EventHandle(event);
  }
  void DeleteEvent(EventHandle event) override { VX_RT(EventDestroy)(VX_RT(Event_t)(event)); }
  Status Record(EventHandle event, StreamHandle stream) override {
    VX_GPU_TRY("cannot record an event", VX_RT(EventRecord)(VX_RT(Event_t)(event), Stream(stream)));
    return {};
  }
  Status Wait(EventHandle event) override {
    VX_GPU_TRY("work on the device failed", VX_RT(EventSynchronize)(VX_RT(Event_t)(event)));
    return {};
  }
  Result<double> Seconds(EventHandle begin, EventHandle end) override {
    float ms = 0;
    VX_GPU_TRY("cannot read a timer", VX_RT(EventElapsedTime)(&ms, VX_RT(Event_t)(begin), VX_RT(Event_t)(end)));
    return double(ms) * 1e-3;
  }

  // Relaxed: an arena that has to grow while work is being captured may ask for memory.
  Status BeginCapture(StreamHandle stream) override {
    VX_GPU_TRY("cannot capture", VX_RT(StreamBeginCapture)(Stream(stream), VX_RT(StreamCaptureModeRelaxed)));
    return {};
  }
  Result<GraphHandle> EndCapture(StreamHandle stream) override {
    VX_RT(Graph_t) graph = nullptr;
    VX_GPU_TRY("the captured work is invalid", VX_RT(StreamEndCapture)(Stream(stream), &graph));
    VX_RT(GraphExec_t) executable = nullptr;
    const Error e = VX_RT(GraphInstantiateWithFlags)(&executable, graph, 0);
    VX_RT(GraphDestroy)(graph);
    VX_GPU_TRY("cannot make a graph", e);
    return GraphHandle(executable);
  }
  Status Launch(GraphHandle graph, StreamHandle stream) override {
    VX_GPU_TRY("cannot launch a graph", VX_RT(GraphLaunch)(VX_RT(GraphExec_t)(graph), Stream(stream)));
    return {};
  }
  void DeleteGraph(GraphHandle graph) override { VX_RT(GraphExecDestroy)(VX_RT(GraphExec_t)(graph)); }

 private:
  static double Gib(int64_t bytes) { return double(bytes) / double(int64_t(1) << 30); }

  Status Start() {
    VX_TRY(Select());
    caps_.free_bytes = FreeBytes();
    VX_ASSIGN(stream_, NewStream());
    return {};
  }
  // The runtime keeps the current device per thread.
  Status Select() {
    VX_GPU_TRY("cannot be used", VX_RT(SetDevice)(caps_.id.index));
    return {};
  }
  Status Copy(void* to, const void* from, size_t bytes, VX_RT(MemcpyKind) kind, StreamHandle stream) {
    if (bytes == 0) return {};
    VX_GPU_TRY("cannot copy memory", VX_RT(MemcpyAsync)(to, from, bytes, kind, Stream(stream)));
    return {};
  }
};

}  // namespace

Result<std::unique_ptr<Device>> Open(DeviceId id) {
  Result<int> found = Count();
  if (!found.ok()) return std::move(found).TakeError().Prefix(NameOf(id));
  const int count = *found;
  if (id.index >= count)
    return Unavailable(fmt::format("{}: found {} CUDA device{} here", NameOf(id), count, count == 1 ? "" : "s"));
  return GpuDevice::Create(id);
}

DeviceList List() {
  DeviceList list{DeviceKind::kCuda, {}, {}};
  const Result<int> count = Count();
  if (!count.ok()) {
    list.reason = count.status().message();
    return list;
  }
  for (int i = 0; i < *count; ++i) {
    Result<DeviceCaps> caps = CapsOf({DeviceKind::kCuda, int16_t(i)});
    if (caps.ok()) list.devices.push_back(*std::move(caps));
  }
  if (list.devices.empty()) list.reason = "the driver lists devices that cannot be read";
  return list;
}

}  // namespace vexil::gpu
