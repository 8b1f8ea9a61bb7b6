#pragma once

#include "ops/scale/scale.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<Scale> {
  struct Case {
    int64_t n, d;
    DType dtype;
    float factor;
    bool in_place;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 64, DType::kBF16, 0.011048543456039806f, true, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    constexpr float kIndexerFactor = 0.011048543456039806f;  // 128^-0.5 * 64^-0.5
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      for (bool in_place : {false, true}) {
        cases.push_back({5, 7, t, kIndexerFactor, in_place, 0});
        cases.push_back({3, 64, t, -1.7f, in_place, 5});
        if (tier == Tier::kFull) cases.push_back({17, 64, t, kIndexerFactor, in_place, 0});
      }
      cases.push_back({1, 1, t, kIndexerFactor, false, 0});
      cases.push_back({0, 64, t, kIndexerFactor, false, 0});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",d=" + std::to_string(c.d) + ",dtype=" + NameOf(c.dtype) +
           (c.in_place ? ",in_place" : "") + (c.padding ? ",strided" : "");
  }
  static Scale::Args Build(const Case& c, TestArena& m) {
    const MutTensorView x = NormalRows(m, c.dtype, {c.n, c.d}, c.padding);
    return {.x = x, .factor = c.factor, .y = c.in_place ? x : m.Padded(c.dtype, {c.n, c.d}, c.padding)};
  }
  static std::vector<Expected> Reference(const Scale::Args& a) {
    Expected y{"y", a.y, ToF64(a.x), {}};
    // The float64 product of two f32 is exact, so both roundings of the op are modelled and nothing is left open.
    for (double& v : y.value) v = RoundTo(a.y.dtype(), RoundTo(DType::kF32, v * double(a.factor)));
    y.tolerance.assign(y.value.size(), 0);
    return {y, UntouchedPadding(a.y)};
  }
  static OpCost Cost(const Scale::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), TotalBytes({a.x, a.y}), Count(a.x)};
  }
  static std::vector<std::string_view> Faults() { return {"factor_rounded", "last_column_dropped"}; }
};

}  // namespace vexil
