#pragma once

#include <cmath>

#include "ops/hc_head/hc_head.h"
#include "ops/hc_pre/reference.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<HcHead> {
  struct Case {
    int64_t n, streams, d;
    DType dtype;
    float eps;
    double stddev;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : {1, 4, 16}) cases.push_back({n, 4, 4096, DType::kBF16, 1e-6f, 1, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    constexpr float kModelEps = 1e-6f, kLargeEps = 1e-2f;  // a large eps shows where it is used
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({5, 4, 7, t, kModelEps, 1, 0});
      cases.push_back({4, 3, 33, t, kLargeEps, 1e-2, 3});
      cases.push_back({3, 4, 5, t, kLargeEps, 1, 0});
      cases.push_back({1, 1, 1, t, kModelEps, 1, 0});
      cases.push_back({0, 4, 8, t, kModelEps, 1, 0});
      if (tier == Tier::kFull) {
        cases.push_back({2, 8, 130, t, kModelEps, 1e-3, 0});
        cases.push_back({5, 4, 4096, t, kModelEps, 1, 0});
      }
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",m=" + std::to_string(c.streams) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype) + (c.eps > 1e-3f ? ",large_eps" : "") + (c.stddev < 1 ? ",small" : "") +
           (c.padding ? ",strided" : "");
  }
  static HcHead::Args Build(const Case& c, TestArena& m) {
    const int64_t width = c.streams * c.d;
    return {.h = NormalRows(m, c.dtype, {c.n, c.streams, c.d}, c.padding, c.stddev),
            .fn = m.Normal(DType::kF32, {c.streams, width}, 1 / std::sqrt(double(width))),
            .scale = m.Uniform(DType::kF32, {1}, 0.5, 0.8),
            .base = m.Normal(DType::kF32, {c.streams}),
            .x = m.Poison(c.dtype, {c.n, c.d}),
            .norm_eps = c.eps,
            .hc_eps = c.eps};
  }
  static std::vector<Expected> Reference(const HcHead::Args& a) {
    const std::vector<double> h = ToF64(a.h), fn = ToF64(a.fn), base = ToF64(a.base);
    const int64_t m = a.h.dim(1), d = a.h.dim(2);
    Expected x{"x", a.x, {}, {}};
    for (int64_t t = 0; t < a.h.dim(0); ++t) {
      const double* u = h.data() + t * m * d;
      std::vector<Bounded> pre = BoundedMixes(u, fn, m * d, double(a.norm_eps));
      for (int64_t s = 0; s < m; ++s) {
        Bounded& p = pre[size_t(s)];
        p = BoundedSigmoid(BoundedAffine(p, double(a.scale.Data<float>()[0]), base[size_t(s)]));
        p.value += double(a.hc_eps);
        p.error += Epsilon(DType::kF32) * p.value;
      }
      AppendMixedStreams(u, pre, d, x);
    }
    return {x};
  }
  static OpCost Cost(const HcHead::Args& a) {
    return {NameOf(a.h.dtype()), a.h.dim(0), TotalBytes({a.h, a.fn, a.x}), 2.0 * Count(a.h) * double(a.fn.dim(0) + 2)};
  }
  static std::vector<std::string_view> Faults() { return {"no_norm_eps", "no_hc_eps", "no_scale", "streams_reversed"}; }
};

}  // namespace vexil
