#pragma once

#include <cmath>

#include "ops/rope/rope.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<Rope> {
  struct Case {
    int64_t n, heads, d, pairs;
    DType dtype;
    bool inverse;
    int64_t max_position, padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 64, 512, 32, DType::kBF16, false, 131072, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      for (bool inverse : {false, true}) {
        cases.push_back({5, 3, 19, 4, t, inverse, 100, 0});
        cases.push_back({4, 2, 6, 3, t, inverse, 1048575, 7});
        cases.push_back({3, 2, 37, 16, t, inverse, 1000, 3});  // whole vectors of pairs
        if (tier == Tier::kFull) cases.push_back({3, 64, 512, 32, t, inverse, 1048575, 0});
      }
      cases.push_back({1, 1, 1, 0, t, false, 10, 0});
      cases.push_back({0, 2, 8, 2, t, false, 10, 0});
      if (tier == Tier::kFull) cases.push_back({17, 64, 128, 32, t, false, 65536, 0});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",heads=" + std::to_string(c.heads) + ",d=" + std::to_string(c.d) +
           ",pairs=" + std::to_string(c.pairs) + ",dtype=" + NameOf(c.dtype) + (c.inverse ? ",inverse" : "") +
           (c.max_position > 1e6 ? ",far" : "") + (c.padding ? ",strided" : "");
  }
  static Rope::Args Build(const Case& c, TestArena& m) {
    std::vector<float> freqs;
    for (int64_t i = 0; i < c.pairs; ++i) freqs.push_back(float(std::pow(10000.0, -double(i) / double(c.pairs))));
    return {.x = NormalRows(m, c.dtype, {c.n, c.heads, c.d}, c.padding),
            .positions = m.Integers(DType::kI32, {c.n}, c.max_position / 2, c.max_position),
            .freqs = m.Values<float>({c.pairs}, freqs),
            .inverse = c.inverse};
  }
  static std::vector<Expected> Reference(const Rope::Args& a) {
    Expected x{"x", a.x, ToF64(a.x), {}};
    x.tolerance.assign(x.value.size(), 0);
    const int64_t heads = a.x.dim(1), d = a.x.dim(2), pairs = a.freqs.dim(0);
    for (int64_t row = 0; row < a.x.dim(0) * heads; ++row) {
      for (int64_t i = 0; i < pairs; ++i) {
        const double angle =
            RoundTo(DType::kF32, double(a.positions.Data<int32_t>()[row / heads]) * double(a.freqs.Data<float>()[i]));
        const double cos = std::cos(angle), sin = a.inverse ? -std::sin(angle) : std::sin(angle);
        const size_t k = size_t(row * d + d - 2 * pairs + 2 * i);
        const double p = x.value[k], q = x.value[k + 1];
        Set(x, k, p * cos, -q * sin);
        Set(x, k + 1, p * sin, q * cos);
      }
    }
    return {x, UntouchedPadding(a.x)};
  }
  static OpCost Cost(const Rope::Args& a) {
    const double rotated = double(a.x.dim(0) * a.x.dim(1) * 2 * a.freqs.dim(0));
    return {NameOf(a.x.dtype()), a.x.dim(0), 2 * rotated * double(BytesOf(a.x.dtype())), 3 * rotated};
  }
  static std::vector<std::string_view> Faults() {
    return {"position_after", "angle_not_rounded", "inverse_ignored", "halves_not_neighbours", "first_channels"};
  }

 private:
  // In f32 the cosine or sine, the product and the sum are each rounded once.
  static void Set(Expected& x, size_t k, double u, double v) {
    x.value[k] = u + v;
    x.tolerance[k] =
        std::abs(u + v) * Epsilon(x.output.dtype()) + 3 * Epsilon(DType::kF32) * (std::abs(u) + std::abs(v));
  }
};

}  // namespace vexil
