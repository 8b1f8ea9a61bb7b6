#pragma once

#include "ops/moe_dispatch/cases.h"
#include "ops/moe_gate/cases.h"
#include "ops/moe_route/moe_route.h"

namespace vexil {

template <>
struct Conformance<MoeRoute> {
  using Case = Conformance<MoeGate>::Case;

  static std::vector<Case> Cases(Tier tier) {
    std::vector<Case> cases = Conformance<MoeGate>::Cases(tier);
    if (tier == Tier::kFull) {
      cases.push_back({64, 256, 6, true, false, 2});
      cases.push_back({65, 256, 6, true, true, 2});
      cases.push_back({61, 40, 16, true, false, 2});
    }
    return cases;
  }
  static std::string Describe(const Case& c) { return Conformance<MoeGate>::Describe(c); }
  static MoeRoute::Args Build(const Case& c, TestArena& m) {
    return {.gate = Conformance<MoeGate>::Build(c, m),
            .offsets = m.Poison(DType::kI32, {c.num_experts + 1}),
            .pair_token = m.Poison(DType::kI32, {c.n * c.k}),
            .pair_slot = m.Poison(DType::kI32, {c.n * c.k}),
            .pair_of = m.Poison(DType::kI32, {c.n, c.k})};
  }
  static std::vector<Expected> Reference(const MoeRoute::Args& a) {
    std::vector<Expected> all = Conformance<MoeGate>::Reference(a.gate);
    // The dispatch of the experts that should have been chosen.
    std::vector<int32_t> experts(all[0].value.begin(), all[0].value.end());
    MoeDispatch::Args dispatch = a.dispatch();
    dispatch.experts = TensorView(experts.data(), DType::kI32, a.gate.experts.dims());
    for (Expected& e : Conformance<MoeDispatch>::Reference(dispatch)) all.push_back(std::move(e));
    return all;
  }
  static OpCost Cost(const MoeRoute::Args& a) {
    OpCost cost = Conformance<MoeGate>::Cost(a.gate);
    cost.bytes += TotalBytes({a.offsets, a.pair_token, a.pair_slot, a.pair_of});
    return cost;
  }
  static std::vector<std::string_view> Faults() { return {"not_dispatched"}; }
};

}  // namespace vexil
