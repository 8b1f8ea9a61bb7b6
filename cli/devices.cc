// vexil devices: the accelerators of this machine, or why there are none.
#include <fmt/format.h>

#include <memory>

#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "device/device.h"

namespace vexil::cli {
namespace {

double Gib(int64_t bytes) { return double(bytes) / double(int64_t(1) << 30); }

std::string KindName(DeviceKind kind) { return kind == DeviceKind::kCuda ? "cuda" : "hip"; }

Json DescribeDevice(const DeviceCaps& c) {
  Json v;
  v.Set("device", NameOf(c.id));
  v.Set("name", c.name);
  v.Set("compute_capability", fmt::format("{}.{}", c.major, c.minor));
  v.Set("multiprocessors", c.multiprocessors);
  v.Set("memory_bytes", c.memory_bytes);
  v.Set("l2_bytes", c.l2_bytes);
  v.Set("pci", c.pci);
  return v;
}

Status Devices(bool json) {
  std::string text = fmt::format("{:<8} {} processors for this process\n", "cpu", ThreadPool::AvailableProcessors());
  Json out;
  out.Set("cpu_processors", ThreadPool::AvailableProcessors());
  for (const DeviceList& list : ListDevices()) {
    Json::Array found;
    for (const DeviceCaps& c : list.devices) {
      text += fmt::format("{:<8} {}, compute capability {}.{}, {} multiprocessors, {:.1f} GiB, L2 {} MiB, PCI {}\n",
                          NameOf(c.id), c.name, c.major, c.minor, c.multiprocessors, Gib(c.memory_bytes),
                          c.l2_bytes >> 20, c.pci);
      found.push_back(DescribeDevice(c));
    }
    if (list.devices.empty()) text += fmt::format("{:<8} none: {}\n", KindName(list.kind), list.reason);
    Json kind;
    kind.Set("devices", Json(std::move(found)));
    if (!list.reason.empty()) kind.Set("reason", list.reason);
    out.Set(KindName(list.kind), kind);
  }
  return Print(json ? out.ToText(1) + "\n" : text);
}

}  // namespace

void AddDevices(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("devices", "the accelerators of this machine, or why there are none");
  auto json = std::make_shared<bool>(false);
  sub->add_flag("--json", *json, "as JSON");
  sub->callback([json, &command] { command.run = [json] { return Devices(*json); }; });
}

}  // namespace vexil::cli
