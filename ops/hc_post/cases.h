#pragma once

#include <cmath>

#include "ops/hc_post/hc_post.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<HcPost> {
  struct Case {
    int64_t n, streams, d;
    DType dtype;
    bool in_place;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 4, 4096, DType::kBF16, true, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      for (bool in_place : {false, true}) {
        cases.push_back({5, 4, 7, t, in_place, 0});
        cases.push_back({3, 2, 129, t, in_place, 5});
        cases.push_back({5, 4, 48, t, in_place, 5});
        if (tier == Tier::kFull) {
          cases.push_back({1, 8, 64, t, in_place, 0});
          cases.push_back({3, 4, 4096, t, in_place, 0});
          cases.push_back({2, 4, 1040, t, in_place, 1});
        }
      }
      cases.push_back({1, 1, 1, t, false, 0});
      cases.push_back({0, 4, 64, t, false, 0});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",m=" + std::to_string(c.streams) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype) + (c.in_place ? ",in_place" : "") + (c.padding ? ",strided" : "");
  }
  static HcPost::Args Build(const Case& c, TestArena& m) {
    const MutTensorView residual = NormalRows(m, c.dtype, {c.n, c.streams, c.d}, c.padding);
    return {.x = NormalRows(m, c.dtype, {c.n, c.d}, c.padding),
            .residual = residual,
            .post = m.Uniform(DType::kF32, {c.n, c.streams}, 0, 2),
            .comb = m.Uniform(DType::kF32, {c.n, c.streams, c.streams}, 0, 1),
            .y = c.in_place ? residual : m.Padded(c.dtype, {c.n, c.streams, c.d}, c.padding)};
  }
  static std::vector<Expected> Reference(const HcPost::Args& a) {
    const std::vector<double> x = ToF64(a.x), residual = ToF64(a.residual), post = ToF64(a.post), comb = ToF64(a.comb);
    const int64_t m = a.residual.dim(1), d = a.residual.dim(2);
    Expected y{"y", a.y, {}, {}};
    for (int64_t t = 0; t < a.x.dim(0); ++t) {
      for (int64_t k = 0; k < m; ++k) {
        for (int64_t c = 0; c < d; ++c) {
          double v = post[size_t(t * m + k)] * x[size_t(t * d + c)], absolute = std::abs(v);
          for (int64_t j = 0; j < m; ++j) {
            const double term = comb[size_t((t * m + j) * m + k)] * residual[size_t((t * m + j) * d + c)];
            v += term;
            absolute += std::abs(term);
          }
          y.value.push_back(v);
          // A product and at most m sums round each term.
          y.tolerance.push_back(std::abs(v) * Epsilon(a.y.dtype()) + double(m + 1) * Epsilon(DType::kF32) * absolute);
        }
      }
    }
    return {y, UntouchedPadding(a.y)};
  }
  static OpCost Cost(const HcPost::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), TotalBytes({a.x, a.residual, a.post, a.comb, a.y}),
            2.0 * Count(a.y) * double(a.y.dim(1) + 1)};
  }
  static std::vector<std::string_view> Faults() {
    return {"comb_transposed", "inner_rounding", "first_stream_dropped"};
  }
};

}  // namespace vexil
