// Which routed experts are in the memory of an accelerator when not all of them fit, and which stay in host memory.
//
// Host experts are copied to one of a few slots on the device when a token needs them (model/expert_cache.h). All that
// is here is arithmetic. docs/decisions/0004-host-experts-are-copied.md says why it is so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace vexil {

// Bytes of the weights in device memory, where each tensor is aligned.
struct WeightSizes {
  int64_t fixed = 0;                  // everything but routed experts
  int64_t experts_per_layer = 0;      // E
  std::vector<int64_t> expert_bytes;  // of one routed expert, by layer
};

struct ExpertPlacement {
  int64_t experts_per_layer = 0;
  std::vector<int64_t> resident;  // by layer: experts [0, resident) are on the device, the others in host memory
  int64_t slots = 0;              // as many as the most host experts of one layer, so that every step can run
  int64_t slot_bytes = 0;         // the largest expert
  int64_t device_bytes = 0;       // everything on the device, slots included
  int64_t host_bytes = 0;
  int64_t host_experts = 0;

  // `resident`: one number per layer.
  static ExpertPlacement Of(const WeightSizes& sizes, std::vector<int64_t> resident);
  // As few host experts as the budget in bytes allows, layer after layer from the first: a layer that has all its
  // experts on the device never waits for the host. kResourceExhausted when even the rest does not fit.
  static Result<ExpertPlacement> For(const WeightSizes& sizes, int64_t budget);

  bool all_resident() const { return host_experts == 0; }
  int64_t experts() const { return experts_per_layer * int64_t(resident.size()); }
  int64_t host_layers() const;  // that have host experts
  // Experts that one token is expected to copy when it needs `k` of every layer, all equally likely.
  double CopiesPerToken(int64_t k) const;
  // One line about the experts: how many are where.
  std::string Summary() const;
};

// The budget without a wish of the user: a sixteenth of the free memory, 1 GiB at least, stays for the state of
// sequences and the scratch of steps.
int64_t DefaultWeightBudget(int64_t free_bytes);

}  // namespace vexil
