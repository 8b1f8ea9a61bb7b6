#pragma once

#include "ops/quantize_activation/reference.h"
#include "ops/quantize_int8/quantize_int8.h"

namespace vexil {

template <>
struct Conformance<QuantizeInt8> {
  struct Case {
    int64_t n, width;
    DType dtype;
    BlockValues values;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 4096, DType::kBF16, BlockValues::kNormal, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({3, 300, t, BlockValues::kNormal, 0});
      cases.push_back({60, 40, t, BlockValues::kEdges, 0});
      cases.push_back({6, 33, t, BlockValues::kTiny, 5});
      cases.push_back({4, 20, t, BlockValues::kNonFinite, 0});
      cases.push_back({1, 1, t, BlockValues::kNormal, 0});
      cases.push_back({0, 128, t, BlockValues::kNormal, 0});
      if (tier == Tier::kFull) cases.push_back({5, 4096, t, BlockValues::kNormal, 0});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",width=" + std::to_string(c.width) + ",dtype=" + NameOf(c.dtype) +
           ",values=" + NameOf(c.values) + (c.padding ? ",strided" : "");
  }
  static QuantizeInt8::Args Build(const Case& c, TestArena& m) {
    // Rows whose largest value is near 127 * 2^e have many values halfway between codes.
    const MutTensorView x = FillBlocks(m, c.dtype, {c.n, c.width}, c.padding, c.values, 127);
    return {.x = x, .codes = m.Poison(DType::kI8, {c.n, c.width}), .scale = m.Poison(DType::kF32, {c.n})};
  }
  // The scale is one rounding away from the real quotient; a code is the rounding of x / s, where x / s is off by
  // the rounding of the division and of s: a value that close to a half may go either way. Not so with a power of two.
  static std::vector<Expected> Reference(const QuantizeInt8::Args& a) {
    const std::vector<double> x = ToF64(a.x);
    const int64_t width = a.x.dim(1);
    constexpr double kF32 = Epsilon(DType::kF32);
    Expected codes{"codes", a.codes, {}, {}}, scale{"scale", a.scale, {}, {}};
    for (int64_t r = 0; r < a.x.dim(0); ++r) {
      double amax = 1e-10;
      bool finite = true;
      for (int64_t i = 0; i < width; ++i) {
        finite = finite && std::isfinite(x[size_t(r * width + i)]);
        amax = std::max(amax, std::abs(x[size_t(r * width + i)]));
      }
      const double s = finite ? amax / 127 : std::nan("");
      scale.value.push_back(s);
      scale.tolerance.push_back(finite ? 2 * kF32 * s : 0);  // 1e-10 is rounded as well
      int ignored = 0;
      const bool exact = std::frexp(s, &ignored) == 0.5;
      for (int64_t i = 0; i < width; ++i) {
        const double q = finite ? x[size_t(r * width + i)] / s : 0;
        const bool near_half = !exact && std::abs(std::abs(q - std::floor(q)) - 0.5) <= 3 * kF32 * std::abs(q);
        codes.value.push_back(near_half ? std::floor(q) + 0.5 : std::nearbyint(q));
        codes.tolerance.push_back(near_half ? 0.5 : 0);
      }
    }
    return {codes, scale};
  }
  static OpCost Cost(const QuantizeInt8::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), TotalBytes({a.x, a.codes, a.scale}), 3.0 * Count(a.x)};
  }
  static std::vector<std::string_view> Faults() { return {"no_floor", "scale_128", "truncated"}; }
};

}  // namespace vexil
