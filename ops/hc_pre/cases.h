#pragma once

#include <cmath>

#include "ops/hc_pre/hc_pre.h"
#include "ops/hc_pre/reference.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<HcPre> {
  struct Case {
    int64_t n, streams, d;
    DType dtype;
    int iters;
    float eps;
    double stddev;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 4, 4096, DType::kBF16, 20, 1e-6f, 1, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    constexpr float kModelEps = 1e-6f, kLargeEps = 1e-2f;  // a large eps shows where it is used
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({5, 4, 7, t, 20, kModelEps, 1, 0});
      cases.push_back({9, 4, 5, t, 2, kLargeEps, 1, 0});
      cases.push_back({6, 3, 33, t, 1, kLargeEps, 1e-2, 3});
      cases.push_back({1, 1, 1, t, 3, kModelEps, 1, 0});
      cases.push_back({0, 4, 8, t, 20, kModelEps, 1, 0});
      if (tier == Tier::kFull) {
        cases.push_back({2, 8, 130, t, 5, kModelEps, 1e-3, 0});
        cases.push_back({5, 4, 4096, t, 20, kModelEps, 1, 0});
        cases.push_back({19, 3, 48, t, 4, kLargeEps, 1, 5});
        // Tiles of tokens and of columns that are not full, few tiles and many.
        cases.push_back({39, 4, 1040, t, 3, kLargeEps, 1, 0});
        cases.push_back({270, 4, 16, t, 1, kModelEps, 1, 1});
      }
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",m=" + std::to_string(c.streams) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype) + ",iters=" + std::to_string(c.iters) + (c.eps > 1e-3f ? ",large_eps" : "") +
           (c.stddev < 1 ? ",small" : "") + (c.padding ? ",strided" : "");
  }
  static HcPre::Args Build(const Case& c, TestArena& m) {
    const int64_t mixes = (2 + c.streams) * c.streams, width = c.streams * c.d;
    return {.h = NormalRows(m, c.dtype, {c.n, c.streams, c.d}, c.padding, c.stddev),
            .fn = m.Normal(DType::kF32, {mixes, width}, 1 / std::sqrt(double(width))),
            .scale = m.Uniform(DType::kF32, {3}, 0.5, 1.5),
            .base = m.Normal(DType::kF32, {mixes}),
            .x = m.Poison(c.dtype, {c.n, c.d}),
            .post = m.Poison(DType::kF32, {c.n, c.streams}),
            .comb = m.Poison(DType::kF32, {c.n, c.streams, c.streams}),
            .norm_eps = c.eps,
            .hc_eps = c.eps,
            .sinkhorn_iters = c.iters};
  }
  static std::vector<Expected> Reference(const HcPre::Args& a) {
    const std::vector<double> h = ToF64(a.h), fn = ToF64(a.fn), scale = ToF64(a.scale), base = ToF64(a.base);
    const int64_t m = a.h.dim(1), d = a.h.dim(2);
    Expected x{"x", a.x, {}, {}}, post{"post", a.post, {}, {}}, comb{"comb", a.comb, {}, {}};
    for (int64_t t = 0; t < a.h.dim(0); ++t) {
      const double* u = h.data() + t * m * d;
      const std::vector<Bounded> mixes = BoundedMixes(u, fn, m * d, double(a.norm_eps));
      const std::vector<Bounded> pre =
          AppendStreamWeights(mixes, scale, base, m, double(a.hc_eps), a.sinkhorn_iters, post, comb);
      AppendMixedStreams(u, pre, d, x);
    }
    return {x, post, comb};
  }
  static OpCost Cost(const HcPre::Args& a) {
    return {NameOf(a.h.dtype()), a.h.dim(0), TotalBytes({a.h, a.fn, a.x, a.post, a.comb}),
            2.0 * Count(a.h) * double(a.fn.dim(0) + 2)};
  }
  static std::vector<std::string_view> Faults() {
    return {"no_norm_eps",         "pre_without_eps",    "post_not_doubled",   "post_with_eps",
            "softmax_without_eps", "one_iteration_less", "columns_before_rows"};
  }
};

}  // namespace vexil
