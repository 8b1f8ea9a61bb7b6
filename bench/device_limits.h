// Ceilings of an accelerator, measured in the process that compares with them.
#pragma once

#include <memory>

#include "device/device.h"
#include "testing/conformance.h"

namespace vexil {

class DeviceLimits {
 public:
  // Takes 1 GiB of device memory. `device` must outlive the object. Errors: of the device.
  static Result<DeviceLimits> Create(Device& device);

  // Issues one pass over the memory, which also drives everything else out of the caches.
  Status StartRead();
  // Bytes per second of that pass; waits for it.
  Result<double> ReadBandwidth();

  // Operations per second of matrix instructions whose operands are in shared memory; 0 where the program has no loop
  // for the chip: floors then count bytes alone.
  double bf16_peak() const { return bf16_; }
  double fp8_peak() const { return fp8_; }

  // Seconds that a call takes at least.
  double FloorOf(const OpCost& cost, double bandwidth) const;

 private:
  explicit DeviceLimits(Device& device) : device_(&device) {}
  Status Start();

  struct EventOf {
    Device* device;
    void operator()(void* event) const { device->DeleteEvent(event); }
  };
  using Event = std::unique_ptr<void, EventOf>;
  Result<Event> NewEvent();
  Result<double> Seconds();  // between the two events; waits
  Result<double> MatrixPeak(bool fp8);

  Device* device_;
  DeviceBuffer memory_;
  Event begin_{nullptr, {nullptr}}, end_{nullptr, {nullptr}};
  double bf16_ = 0, fp8_ = 0;
};

}  // namespace vexil
