#pragma once

#include <bit>
#include <cmath>

#include "ops/hadamard/hadamard.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<Hadamard> {
  struct Case {
    int64_t rows, d;
    DType dtype;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n * 64, 128, DType::kBF16, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    const std::vector<int64_t> widths =
        tier == Tier::kSmoke ? std::vector<int64_t>{2, 128} : std::vector<int64_t>{1, 2, 4, 16, 128, 1024};
    for (DType t : {DType::kF32, DType::kBF16}) {
      for (int64_t d : widths) cases.push_back({d < 1024 ? 9 : 2, d, t, 0});
      cases.push_back({3, 32, t, 5});
      cases.push_back({1, 8, t, 0});
      cases.push_back({0, 128, t, 0});
    }
    if (tier == Tier::kFull) cases.push_back({64, 128, DType::kBF16, 0});
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "rows=" + std::to_string(c.rows) + ",d=" + std::to_string(c.d) + ",dtype=" + NameOf(c.dtype) +
           (c.padding ? ",strided" : "");
  }
  static Hadamard::Args Build(const Case& c, TestArena& m) {
    return {.x = NormalRows(m, c.dtype, {c.rows, c.d}, c.padding)};
  }
  static std::vector<Expected> Reference(const Hadamard::Args& a) {
    const std::vector<double> x = ToF64(a.x);
    const int64_t d = a.x.dim(1);
    const double factor = RoundTo(DType::kF32, 1 / std::sqrt(double(d)));
    Expected y{"x", a.x, {}, {}};
    for (int64_t r = 0; r < a.x.dim(0); ++r) {
      const double* row = x.data() + r * d;
      double absolute = 0;
      for (int64_t i = 0; i < d; ++i) absolute += std::abs(row[i]);
      for (int64_t i = 0; i < d; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < d; ++j) sum += std::popcount(uint64_t(i & j)) % 2 ? -row[j] : row[j];
        const double v = sum * factor;
        y.value.push_back(v);
        // Each of the log2(d) stages rounds once, relative to a partial sum of the |x|; then the factor.
        y.tolerance.push_back(std::abs(v) * (Epsilon(a.x.dtype()) + Epsilon(DType::kF32)) +
                              std::log2(double(d)) * Epsilon(DType::kF32) * absolute * factor);
      }
    }
    return {y, UntouchedPadding(a.x)};
  }
  static OpCost Cost(const Hadamard::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), 2 * TotalBytes({a.x}), Count(a.x) * std::log2(double(a.x.dim(1)))};
  }
  static std::vector<std::string_view> Faults() {
    return {"not_normalized", "last_stage_missing", "rounded_before_factor"};
  }
};

}  // namespace vexil
