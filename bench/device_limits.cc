#include "bench/device_limits.h"

#include <algorithm>

#include "bench/gpu_loops.h"

namespace vexil {
namespace {
constexpr size_t kBytes = size_t(1) << 30;
}  // namespace

#if !VX_WITH_HOPPER
// Without loops of the chip's own.
namespace gpu {
Status StartReadLoop(Device& device, void* memory, size_t bytes) {
  return device.CopyWithin(static_cast<char*>(memory) + bytes / 2, memory, bytes / 2, device.stream());
}
bool HasMatrixLoops(const DeviceCaps&) { return false; }
double FlopsOfMatrixLoop(const DeviceCaps&, bool) { return 0; }
Status StartMatrixLoop(Device&, bool, void*) { return {}; }
}  // namespace gpu
#endif

Result<DeviceLimits> DeviceLimits::Create(Device& device) {
  DeviceLimits limits(device);
  VX_TRY(limits.Start());
  return limits;
}

Status DeviceLimits::Start() {
  VX_ASSIGN(memory_, DeviceBuffer::Create(*device_, kBytes));
  VX_TRY(device_->Fill(memory_.data(), 0x5a, kBytes, device_->stream()));
  VX_ASSIGN(begin_, NewEvent());
  VX_ASSIGN(end_, NewEvent());
  if (!gpu::HasMatrixLoops(device_->caps())) return {};
  VX_ASSIGN(bf16_, MatrixPeak(false));
  VX_ASSIGN(fp8_, MatrixPeak(true));
  return {};
}

Result<DeviceLimits::Event> DeviceLimits::NewEvent() {
  VX_ASSIGN(void* event, device_->NewEvent());
  return Event(event, {device_});
}

Result<double> DeviceLimits::Seconds() {
  VX_TRY(device_->Wait(end_.get()));
  return device_->Seconds(begin_.get(), end_.get());
}

Result<double> DeviceLimits::MatrixPeak(bool fp8) {
  constexpr int kRuns = 3;
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    VX_TRY(device_->Record(begin_.get(), device_->stream()));
    VX_TRY(gpu::StartMatrixLoop(*device_, fp8, memory_.data()));
    VX_TRY(device_->Record(end_.get(), device_->stream()));
    VX_ASSIGN(const double seconds, Seconds());
    best = std::max(best, gpu::FlopsOfMatrixLoop(device_->caps(), fp8) / seconds);
  }
  return best;
}

Status DeviceLimits::StartRead() {
  VX_TRY(device_->Record(begin_.get(), device_->stream()));
  VX_TRY(gpu::StartReadLoop(*device_, memory_.data(), kBytes));
  return device_->Record(end_.get(), device_->stream());
}

Result<double> DeviceLimits::ReadBandwidth() {
  VX_ASSIGN(const double seconds, Seconds());
  return double(kBytes) / seconds;
}

double DeviceLimits::FloorOf(const OpCost& cost, double bandwidth) const {
  // Products of E4M3 rows run on the FP8 units; E2M1 weights are converted to E4M3 for them.
  const bool fp8 = cost.dtype.starts_with("e4m3*");
  const double peak = cost.unit == ComputeUnit::kF32 ? 0 : fp8 ? fp8_ : bf16_;
  return std::max(cost.bytes / bandwidth, peak > 0 ? cost.flops / peak : 0.0);
}

}  // namespace vexil
