#pragma once

#include "ops/quantize_activation/reference.h"
#include "ops/rms_norm_quantize/rms_norm_quantize.h"
#include "testing/conformance.h"
#include "testing/interval.h"

namespace vexil {

template <>
struct Conformance<RmsNormQuantize> {
  struct Case {
    int64_t n, d, block;
    DType dtype, weight;
    double stddev = 1;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 1024, 128, DType::kBF16, DType::kF32});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({3, 300, 128, t, DType::kF32});
      cases.push_back({2, 33, 16, t, DType::kBF16});
      cases.push_back({4, 128, 128, t, DType::kBF16, 1e-3});  // small enough for eps to matter
      cases.push_back({3, 512, 128, t, DType::kF32, 1e-9});   // and for the least scale
      if (tier == Tier::kSmoke) continue;
      cases.push_back({0, 128, 128, t, DType::kF32});
      cases.push_back({1, 1, 128, t, DType::kF32});
      cases.push_back({17, 1024, 128, t, DType::kF32});
      cases.push_back({2, 4096, 128, t, DType::kBF16});
      cases.push_back({2, 4224, 128, t, DType::kF32});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",d=" + std::to_string(c.d) + ",block=" + std::to_string(c.block) +
           ",dtype=" + NameOf(c.dtype) + ",weight=" + NameOf(c.weight) +
           (c.stddev < 1e-6 ? ",tiny"
            : c.stddev < 1  ? ",small"
                            : "");
  }
  static RmsNormQuantize::Args Build(const Case& c, TestArena& m) {
    return {.x = m.Normal(c.dtype, {c.n, c.d}, c.stddev),
            .weight = m.Normal(c.weight, {c.d}, 0.25, 1),
            .codes = m.Poison(DType::kE4M3, {c.n, c.d}),
            .scale = m.Poison(DType::kE8M0, {c.n, (c.d + c.block - 1) / c.block}),
            .eps = 1e-6f,
            .block = c.block};
  }
  // The normed values are off by what ops/rms_norm/cases.h says, then rounded: an interval for each, and for the scale.
  static std::vector<Expected> Reference(const RmsNormQuantize::Args& a) {
    const std::vector<double> x = ToF64(a.x), w = ToF64(a.weight);
    const int64_t d = a.x.dim(1);
    const TargetFormat format = E4M3Format();
    Expected codes{"codes", a.codes, {}, {}}, scale{"scale", a.scale, {}, {}};
    for (int64_t r = 0; r < a.x.dim(0); ++r) {
      double sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += x[size_t(r * d + i)] * x[size_t(r * d + i)];
      const double root = std::sqrt(sum / double(d) + double(a.eps)),
                   error = (double(d) / 2 + 5) * Epsilon(DType::kF32);
      for (int64_t begin = 0; begin < d; begin += a.block) {
        std::vector<double> low, high;  // ends of the value, the nearer to zero first
        for (int64_t i = begin; i < std::min(begin + a.block, d); ++i) {
          const double v = w[size_t(i)] * x[size_t(r * d + i)] / root;
          low.push_back(RoundTo(a.x.dtype(), v * (1 - error)));
          high.push_back(RoundTo(a.x.dtype(), v * (1 + error)));
        }
        const int64_t count = int64_t(low.size());
        const Interval s = {RoundBlock(low.data(), count, format).scale, RoundBlock(high.data(), count, format).scale};
        Append(scale, s);
        for (size_t i = 0; i < low.size(); ++i) {
          const double small = NearestMagnitude(format.magnitudes, std::abs(low[i]) / s.high),
                       large = NearestMagnitude(format.magnitudes, std::abs(high[i]) / s.low);
          Append(codes, low[i] < 0 ? Interval{-large, -small} : Interval{small, large});
        }
      }
    }
    return {codes, scale};
  }
  static OpCost Cost(const RmsNormQuantize::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), TotalBytes({a.x, a.weight, a.codes, a.scale}), 8.0 * Count(a.x)};
  }
  static std::vector<std::string_view> Faults() { return {"no_eps", "norm_forgotten"}; }
};

}  // namespace vexil
