#pragma once

#include <algorithm>
#include <numeric>

#include "ops/moe_combine/moe_combine.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<MoeCombine> {
  struct Case {
    int64_t n, k, d;
    DType dtype;
    bool in_place = false;
    int64_t padding = 0;  // of the rows of y
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 6, 4096, DType::kBF16, true});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({3, 2, 7, t});
      cases.push_back({5, 6, 65, t, true});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({0, 6, 8, t});
      cases.push_back({1, 1, 1, t});
      cases.push_back({4, 8, 33, t, false, 3});
      cases.push_back({6, 6, 4096, t, true});
      cases.push_back({5, 7, 48, t, false, 3});
      cases.push_back({2, 1, 1040, t});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",k=" + std::to_string(c.k) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype) + (c.in_place ? ",in_place" : "") + (c.padding ? ",strided" : "");
  }
  static MoeCombine::Args Build(const Case& c, TestArena& m) {
    // Distinct experts in any order, and the pairs in any order too: the op follows pair_of.
    constexpr int32_t kExperts = 20;
    std::vector<int32_t> experts, all(kExperts), pairs(static_cast<size_t>(c.n * c.k));
    std::iota(all.begin(), all.end(), 0);
    for (int64_t t = 0; t < c.n; ++t) {
      std::shuffle(all.begin(), all.end(), m.rng());
      experts.insert(experts.end(), all.begin(), all.begin() + c.k);
    }
    std::iota(pairs.begin(), pairs.end(), 0);
    std::shuffle(pairs.begin(), pairs.end(), m.rng());
    const MutTensorView shared = m.Normal(c.dtype, {c.n, c.d});
    return {.y = m.Normal(c.dtype, {c.n * c.k, c.d + c.padding}).Columns(0, c.d),
            .experts = m.Values<int32_t>({c.n, c.k}, experts),
            .pair_of = m.Values<int32_t>({c.n, c.k}, pairs),
            .shared = shared,
            .out = c.in_place ? shared : m.Poison(c.dtype, {c.n, c.d})};
  }
  // The order of the f32 sum is part of the op, so the reference rounds after each addition (a float64 sum of two
  // f32 values rounds to the same f32 as their exact sum) and the result is exact.
  static std::vector<Expected> Reference(const MoeCombine::Args& a) {
    const std::vector<double> y = ToF64(a.y), shared = ToF64(a.shared), experts = ToF64(a.experts),
                              pair_of = ToF64(a.pair_of);
    const int64_t n = a.experts.dim(0), k = a.experts.dim(1), d = a.y.dim(1);
    Expected out{"out", a.out, {}, {}};
    for (int64_t t = 0; t < n; ++t) {
      std::vector<std::pair<double, double>> slots;  // (expert, pair)
      for (int64_t s = t * k; s < (t + 1) * k; ++s) slots.emplace_back(experts[size_t(s)], pair_of[size_t(s)]);
      std::sort(slots.begin(), slots.end());
      for (int64_t i = 0; i < d; ++i) {
        double sum = 0;
        for (const auto& [expert, pair] : slots) sum = RoundTo(DType::kF32, sum + y[size_t(int64_t(pair) * d + i)]);
        sum = RoundTo(DType::kF32, sum + shared[size_t(t * d + i)]);
        out.value.push_back(RoundTo(a.out.dtype(), sum));
        out.tolerance.push_back(0);
      }
    }
    return {out};
  }
  static OpCost Cost(const MoeCombine::Args& a) {
    return {NameOf(a.y.dtype()), a.out.dim(0), TotalBytes({a.y, a.shared, a.out}), Count(a.y) + Count(a.out)};
  }
  static std::vector<std::string_view> Faults() { return {"slot_order", "first_slot", "dropped_shared"}; }
};

}  // namespace vexil
