#include "testing/test_device.h"

#include <map>

namespace vexil {

Result<TestDevice*> TestDevice::Get(DeviceKind kind) {
  struct Opened {
    std::unique_ptr<TestDevice> device;
    std::string reason;
  };
  static std::map<DeviceKind, Opened> devices;
  const auto [it, first] = devices.try_emplace(kind);
  if (first) {
    Result<std::unique_ptr<Device>> device = OpenDevice({kind, 0});
    if (device.ok()) {
      it->second.device.reset(new TestDevice(*std::move(device)));
    } else {
      it->second.reason = device.status().message();
    }
  }
  if (it->second.device == nullptr) return Unavailable(it->second.reason);
  return it->second.device.get();
}

void TestDevice::Use(Context& ctx) {
  ctx.device = device_->caps().id;
  ctx.accelerator = device_.get();
  ctx.stream = device_->stream();
  ctx.workspace = &workspace_;
}

}  // namespace vexil
