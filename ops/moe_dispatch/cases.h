#pragma once

#include <algorithm>
#include <numeric>

#include "ops/moe_dispatch/moe_dispatch.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<MoeDispatch> {
  struct Case {
    int64_t n, k, num_experts;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 6, 256});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases = {{3, 2, 5}, {9, 4, 3}};
    if (tier == Tier::kSmoke) return cases;
    for (Case c : {Case{0, 6, 8}, {1, 1, 1}, {1, 6, 256}, {128, 6, 256}, {33, 8, 384}, {40, 3, 1}}) cases.push_back(c);
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",k=" + std::to_string(c.k) + ",E=" + std::to_string(c.num_experts);
  }
  static MoeDispatch::Args Build(const Case& c, TestArena& m) {
    return {.experts = m.Integers(DType::kI32, {c.n, c.k}, 0, c.num_experts - 1),
            .num_experts = c.num_experts,
            .offsets = m.Poison(DType::kI32, {c.num_experts + 1}),
            .pair_token = m.Poison(DType::kI32, {c.n * c.k}),
            .pair_slot = m.Poison(DType::kI32, {c.n * c.k}),
            .pair_of = m.Poison(DType::kI32, {c.n, c.k})};
  }
  static std::vector<Expected> Reference(const MoeDispatch::Args& a) {
    const int64_t pairs = a.experts.dims().Count(), k = a.experts.dim(1);
    const int32_t* experts = a.experts.Data<int32_t>();
    std::vector<int64_t> order(static_cast<size_t>(pairs));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t l, int64_t r) { return experts[l] < experts[r]; });

    std::vector<double> offsets, token, slot, pair_of(static_cast<size_t>(pairs));
    for (int64_t e = 0; e <= a.num_experts; ++e) {
      offsets.push_back(double(std::count_if(experts, experts + pairs, [&](int32_t v) { return v < e; })));
    }
    for (int64_t p = 0; p < pairs; ++p) {
      const int64_t i = order[size_t(p)];
      token.push_back(double(i / k));
      slot.push_back(double(i));
      pair_of[size_t(i)] = double(p);
    }
    return {Exact("offsets", a.offsets, offsets), Exact("pair_token", a.pair_token, token),
            Exact("pair_slot", a.pair_slot, slot), Exact("pair_of", a.pair_of, pair_of)};
  }
  static OpCost Cost(const MoeDispatch::Args& a) {
    return {NameOf(a.experts.dtype()), a.experts.dim(0),
            TotalBytes({a.experts, a.offsets, a.pair_token, a.pair_slot, a.pair_of}), 0};
  }
  static std::vector<std::string_view> Faults() { return {"unstable", "slot_without_token", "inverse_permutation"}; }

 private:
  static Expected Exact(std::string_view name, const TensorView& output, std::vector<double> value) {
    std::vector<double> zero(value.size(), 0);
    return {name, output, std::move(value), std::move(zero)};
  }
};

}  // namespace vexil
