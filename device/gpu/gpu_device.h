// The Device of NVIDIA and AMD chips. Internal to device/.
#pragma once

#include <memory>

#include "device/device.h"

namespace vexil::gpu {
Result<std::unique_ptr<Device>> Open(DeviceId id);
DeviceList List();
}  // namespace vexil::gpu
