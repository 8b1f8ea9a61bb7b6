// The accelerator of tests: opened once, closed when the program ends.
#pragma once

#include <memory>

#include "ops/op.h"

namespace vexil {

class TestDevice {
 public:
  // The first device of the kind, or why there is none.
  static Result<TestDevice*> Get(DeviceKind kind);

  Device& device() { return *device_; }
  // Makes a context compute there, with a workspace of the device.
  void Use(Context& ctx);

 private:
  explicit TestDevice(std::unique_ptr<Device> device) : device_(std::move(device)), workspace_(device_.get()) {}
  std::unique_ptr<Device> device_;
  Arena workspace_;
};

}  // namespace vexil
