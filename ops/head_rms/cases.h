#pragma once

#include <algorithm>
#include <cmath>

#include "ops/head_rms/head_rms.h"
#include "testing/interval.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<HeadRms> {
  struct Case {
    int64_t n, heads, d;
    DType dtype;
    int64_t padding;
    double stddev;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 64, 512, DType::kBF16, 0, 1.0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      for (double stddev : {1.0, 2e-2, 1e-3}) {  // the smaller ones bring eps to bear
        cases.push_back({9, 7, 5, t, 0, stddev});
        cases.push_back({3, 2, 37, t, 3, stddev});
        cases.push_back({3, 2, 48, t, 5, stddev});
        if (tier == Tier::kFull) cases.push_back({2, 64, 512, t, 0, stddev});
      }
      cases.push_back({1, 1, 1, t, 0, 1});
      cases.push_back({0, 2, 8, t, 0, 1});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",heads=" + std::to_string(c.heads) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype) + (c.padding ? ",strided" : "") +
           (c.stddev < 1e-2 ? ",tiny"
            : c.stddev < 1  ? ",small"
                            : "");
  }
  static HeadRms::Args Build(const Case& c, TestArena& m) {
    return {.x = NormalRows(m, c.dtype, {c.n, c.heads, c.d}, c.padding, c.stddev)};
  }
  static std::vector<Expected> Reference(const HeadRms::Args& a) {
    const std::vector<double> x = ToF64(a.x);
    const int64_t d = a.x.dim(2);
    Expected y{"x", a.x, {}, {}};
    for (int64_t row = 0; row < a.x.dim(0) * a.x.dim(1); ++row) {
      const Interval r = InverseRms(x.data() + row * d, d, double(a.eps), a.x.dtype());
      for (int64_t i = row * d; i < (row + 1) * d; ++i) {
        // Both roundings of the last product are modelled (a float64 product of two f32 is exact), so that with
        // BF16 a head whose r is certain must agree bit for bit.
        const auto times = [&](double factor) {
          return RoundTo(a.x.dtype(), RoundTo(DType::kF32, x[size_t(i)] * factor));
        };
        const auto [low, high] = std::minmax({times(r.low), times(r.high)});
        Append(y, {low, high});
      }
    }
    return {y, UntouchedPadding(a.x)};
  }
  static OpCost Cost(const HeadRms::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), 2 * TotalBytes({a.x}), 4.0 * Count(a.x)};
  }
  static std::vector<std::string_view> Faults() {
    return {"no_eps",           "wrong_mean",          "squares_not_rounded",
            "mean_not_rounded", "eps_sum_not_rounded", "rsqrt_not_rounded"};
  }

 private:
  // r of the formula with all its roundings. f32 arithmetic of any order may differ from float64 in the sum (of d
  // squares, by at most d roundings with the quotient) and in the reciprocal root (2 roundings).
  static Interval InverseRms(const double* x, int64_t d, double eps, DType t) {
    constexpr DType kF32 = DType::kF32;
    double sum = 0;
    for (int64_t i = 0; i < d; ++i) sum += RoundTo(t, RoundTo(kF32, x[i] * x[i]));
    const double mean = sum / double(d);
    Interval m = RoundTo(t, Around(mean, mean * double(d) * Epsilon(kF32)));
    m = RoundTo(t, RoundTo(kF32, Interval{m.low + eps, m.high + eps}));
    const double root_error = 2 * Epsilon(kF32);
    return RoundTo(t,
                   RoundTo(kF32, Interval{(1 - root_error) / std::sqrt(m.high), (1 + root_error) / std::sqrt(m.low)}));
  }
};

}  // namespace vexil
