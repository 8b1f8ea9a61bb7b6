#include "device/device.h"

#include <fmt/format.h>

#include "device/gpu/gpu_device.h"

namespace vexil {

Result<DeviceId> ParseDevice(std::string_view text) {
  const auto wrong = [&] { return InvalidArgument(fmt::format("device '{}': expected cpu, cuda or cuda:N", text)); };
  if (text == "cpu") return DeviceId{};
  if (!text.starts_with("cuda")) return wrong();
  DeviceId id{DeviceKind::kCuda, 0};
  std::string_view number = text.substr(4);
  if (number.empty()) return id;
  if (number.size() < 2 || number.size() > 3 || number[0] != ':') return wrong();
  for (char c : number.substr(1)) {
    if (c < '0' || c > '9') return wrong();
    id.index = int16_t(id.index * 10 + (c - '0'));
  }
  return id;
}

std::string NameOf(DeviceId id) {
  if (id.kind == DeviceKind::kCpu) return "cpu";
  return fmt::format("{}:{}", id.kind == DeviceKind::kCuda ? "cuda" : "hip", id.index);
}

#if VX_WITH_CUDA
Result<std::unique_ptr<Device>> OpenDevice(DeviceId id) {
  if (id.kind == DeviceKind::kCpu) return InvalidArgument("the CPU is not an accelerator");
  if (id.kind != DeviceKind::kCuda) return Unsupported(fmt::format("{}: this program is built for CUDA", NameOf(id)));
  return gpu::Open(id);
}
std::vector<DeviceList> ListDevices() { return {gpu::List()}; }
#else
Result<std::unique_ptr<Device>> OpenDevice(DeviceId id) {
  if (id.kind == DeviceKind::kCpu) return InvalidArgument("the CPU is not an accelerator");
  return Unsupported(fmt::format("{}: this program is built without CUDA; build it with the preset cuda", NameOf(id)));
}
std::vector<DeviceList> ListDevices() {
  return {{DeviceKind::kCuda, {}, "this program is built without CUDA; build it with the preset cuda"}};
}
#endif

}  // namespace vexil
