#pragma once

#include <cmath>

#include "ops/rms_norm/rms_norm.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<RmsNorm> {
  struct Case {
    int64_t rows, d;
    DType dtype, weight;
    bool in_place;
    double stddev;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 4096, DType::kBF16, DType::kF32, true, 1.0});
    cases.push_back({1, 1024, DType::kBF16, DType::kF32, true, 1.0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    const std::vector<int64_t> widths =
        tier == Tier::kSmoke ? std::vector<int64_t>{7, 129} : std::vector<int64_t>{1, 7, 64, 129, 512, 4096};
    for (int64_t d : widths) {
      for (DType t : {DType::kF32, DType::kBF16}) {
        for (bool in_place : {false, true})
          cases.push_back({5, d, t, in_place ? DType::kBF16 : DType::kF32, in_place, 1.0});
        cases.push_back({3, d, t, DType::kBF16, false, 1e-3});  // small enough for eps to matter
      }
    }
    cases.push_back({0, 64, DType::kF32, DType::kF32, false, 1.0});
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "rows=" + std::to_string(c.rows) + ",d=" + std::to_string(c.d) + ",dtype=" + NameOf(c.dtype) +
           ",weight=" + NameOf(c.weight) + (c.in_place ? ",in_place" : "") + (c.stddev < 1 ? ",small" : "");
  }
  static RmsNorm::Args Build(const Case& c, TestArena& m) {
    const MutTensorView x = m.Normal(c.dtype, {c.rows, c.d}, c.stddev);
    return {.x = x,
            .weight = m.Normal(c.weight, {c.d}, 0.25, 1),
            .y = c.in_place ? x : m.Poison(c.dtype, {c.rows, c.d}),
            .eps = 1e-6f};
  }
  static std::vector<Expected> Reference(const RmsNorm::Args& a) {
    const std::vector<double> x = ToF64(a.x), w = ToF64(a.weight);
    const int64_t rows = a.x.dim(0), d = a.x.dim(1);
    Expected y{"y", a.y, {}, {}};
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += x[size_t(r * d + i)] * x[size_t(r * d + i)];
      for (int64_t i = 0; i < d; ++i) {
        const double v = w[size_t(i)] * x[size_t(r * d + i)] / std::sqrt(sum / double(d) + double(a.eps));
        y.value.push_back(v);
        // The f32 sum of d squares is off by at most d roundings, halved by the root; then the root, the
        // quotient and two products, and one rounding to the output.
        y.tolerance.push_back(std::abs(v) * (Epsilon(a.y.dtype()) + (double(d) / 2 + 5) * Epsilon(DType::kF32)) +
                              1e-40);
      }
    }
    return {y};
  }
  static OpCost Cost(const RmsNorm::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), TotalBytes({a.x, a.weight, a.y}), 4.0 * Count(a.x)};
  }
  static std::vector<std::string_view> Faults() { return {"no_eps", "wrong_mean"}; }
};

}  // namespace vexil
