#include "model/expert_placement.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace vexil {
namespace {

constexpr int64_t kLeastReserve = int64_t(1) << 30;
constexpr int64_t kReserveShare = 16;

std::string Size(int64_t bytes) {
  const double mib = double(bytes) / double(1 << 20);
  return mib < 1024 ? fmt::format("{:.2f} MiB", mib) : fmt::format("{:.2f} GiB", mib / 1024);
}

}  // namespace

ExpertPlacement ExpertPlacement::Of(const WeightSizes& sizes, std::vector<int64_t> resident) {
  VX_CHECK(resident.size() == sizes.expert_bytes.size(), "one number per layer");
  ExpertPlacement p;
  p.experts_per_layer = sizes.experts_per_layer;
  p.device_bytes = sizes.fixed;
  for (size_t l = 0; l < resident.size(); ++l) {
    const int64_t host = sizes.experts_per_layer - resident[l];
    p.device_bytes += resident[l] * sizes.expert_bytes[l];
    p.host_bytes += host * sizes.expert_bytes[l];
    p.host_experts += host;
    p.slots = std::max(p.slots, host);
    if (host > 0) p.slot_bytes = std::max(p.slot_bytes, sizes.expert_bytes[l]);
  }
  p.device_bytes += p.slots * p.slot_bytes;
  p.resident = std::move(resident);
  return p;
}

Result<ExpertPlacement> ExpertPlacement::For(const WeightSizes& sizes, int64_t budget) {
  ExpertPlacement p = Of(sizes, std::vector<int64_t>(sizes.expert_bytes.size(), sizes.experts_per_layer));
  for (size_t l = 0; l < p.resident.size(); ++l) {
    // The first layer's save nothing, since each needs a slot; every later one does.
    while (p.device_bytes > budget && p.resident[l] > 0) {
      std::vector<int64_t> fewer = std::move(p.resident);
      --fewer[l];
      p = Of(sizes, std::move(fewer));
    }
  }
  if (p.device_bytes <= budget) return p;
  return ResourceExhausted(
      fmt::format("the weights may take {} of device memory, expected at least {}: {} for everything but the routed "
                  "experts and {} for the experts of one layer",
                  Size(budget), Size(p.device_bytes), Size(sizes.fixed), Size(p.device_bytes - sizes.fixed)));
}

int64_t ExpertPlacement::host_layers() const {
  return std::count_if(resident.begin(), resident.end(), [&](int64_t r) { return r < experts_per_layer; });
}

double ExpertPlacement::CopiesPerToken(int64_t k) const {
  if (all_resident()) return 0;
  const double needed = double(k) * double(host_experts) / double(experts_per_layer);
  return needed * (1 - double(slots) / double(host_experts));
}

std::string ExpertPlacement::Summary() const {
  if (all_resident()) return fmt::format("all {} routed experts on the device", experts());
  return fmt::format(
      "{} of {} routed experts on the device, {} (of {} layers) in host memory ({}), copied to {} slots when a "
      "token needs them; decode steps are not replayed as graphs, since they ask the host for experts",
      experts() - host_experts, experts(), host_experts, host_layers(), Size(host_bytes), slots);
}

int64_t DefaultWeightBudget(int64_t free_bytes) {
  return free_bytes - std::max(free_bytes / kReserveShare, kLeastReserve);
}

}  // namespace vexil
