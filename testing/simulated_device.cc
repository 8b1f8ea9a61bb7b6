#include "testing/simulated_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace vexil {
namespace {

constexpr size_t kPoisoned = size_t(256) << 10;

size_t Pages(size_t bytes) {
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  return (bytes / page + 1) * page;
}

// Streams and events have nothing to hold; callers tell them from null.
void* const kHandle = reinterpret_cast<void*>(1);

Status NoGraphs() { return Unsupported("the simulated device has no graphs"); }

}  // namespace

SimulatedDevice::SimulatedDevice(int64_t memory_bytes, bool guarded)
    : free_bytes_(memory_bytes), open_(guarded ? 0 : 1) {
  // An id that is neither the host's nor a kind of chip with kernels of its own.
  caps_.id = {DeviceKind::kCpu, 1};
  caps_.name = "simulated";
  caps_.memory_bytes = caps_.free_bytes = memory_bytes;
  stream_ = kHandle;
}

SimulatedDevice::~SimulatedDevice() {
  for (const auto& [memory, bytes] : blocks_) munmap(memory, bytes);
}

OpTrace* SimulatedDevice::TraceOf(Device* device) {
  auto* simulated = dynamic_cast<SimulatedDevice*>(device);
  return simulated ? &simulated->trace_ : nullptr;
}

Result<void*> SimulatedDevice::Allocate(size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (int64_t(Pages(bytes)) > free_bytes_) return ResourceExhausted("simulated device: out of memory");
  void* memory = mmap(nullptr, Pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ResourceExhausted("simulated device: out of memory");
  // NaN in every format: what nobody wrote must not be used. Not all of it, since pages that are in use make Protect
  // slow.
  std::memset(memory, 0xff, std::min(bytes, kPoisoned));
  blocks_[memory] = Pages(bytes);
  free_bytes_ -= int64_t(Pages(bytes));
  if (open_ == 0) mprotect(memory, Pages(bytes), PROT_NONE);
  return memory;
}

void SimulatedDevice::Free(void* memory) {
  if (memory == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(memory);
  VX_CHECK(block != blocks_.end(), "freed memory that the device does not have");
  munmap(memory, block->second);
  free_bytes_ += int64_t(block->second);
  blocks_.erase(block);
}

Result<void*> SimulatedDevice::AllocatePinned(size_t bytes) { return ::operator new(bytes); }
void SimulatedDevice::FreePinned(void* memory) { ::operator delete(memory); }
int64_t SimulatedDevice::FreeBytes() const {
  const std::lock_guard lock(mutex_);
  return free_bytes_;
}

Result<StreamHandle> SimulatedDevice::NewStream() { return kHandle; }
Status SimulatedDevice::Synchronize(StreamHandle) {
  const std::lock_guard lock(mutex_);
  for (const CopiedOut& c : copied_out_) std::memcpy(c.host, c.bytes.data(), c.bytes.size());
  copied_out_.clear();
  return {};
}
Result<Device::EventHandle> SimulatedDevice::NewEvent() { return kHandle; }

Status SimulatedDevice::CopyIn(void* device, const void* host, size_t bytes, StreamHandle) {
  const Access access(*this);
  std::memcpy(device, host, bytes);
  return {};
}
Status SimulatedDevice::CopyOut(void* host, const void* device, size_t bytes, StreamHandle) {
  const Access access(*this);
  CopiedOut c{host, std::vector<char>(bytes)};
  std::memcpy(c.bytes.data(), device, bytes);
  std::memset(host, 0xff, bytes);
  const std::lock_guard lock(mutex_);
  copied_out_.push_back(std::move(c));
  return {};
}
Status SimulatedDevice::CopyWithin(void* to, const void* from, size_t bytes, StreamHandle) {
  const Access access(*this);
  std::memmove(to, from, bytes);
  return {};
}
Status SimulatedDevice::Fill(void* device, uint8_t byte, size_t bytes, StreamHandle) {
  const Access access(*this);
  std::memset(device, byte, bytes);
  return {};
}

Status SimulatedDevice::BeginCapture(StreamHandle) { return NoGraphs(); }
Result<Device::GraphHandle> SimulatedDevice::EndCapture(StreamHandle) { return NoGraphs(); }
Status SimulatedDevice::Launch(GraphHandle, StreamHandle) { return NoGraphs(); }

void SimulatedDevice::Open() {
  const std::lock_guard lock(mutex_);
  if (open_++ == 0) Protect(PROT_READ | PROT_WRITE);
}
void SimulatedDevice::Close() {
  const std::lock_guard lock(mutex_);
  if (--open_ == 0) Protect(PROT_NONE);
}
void SimulatedDevice::Protect(int protection) {
  for (const auto& [memory, bytes] : blocks_) {
    VX_CHECK(mprotect(memory, bytes, protection) == 0, "mprotect of memory that is mapped");
  }
}

}  // namespace vexil
