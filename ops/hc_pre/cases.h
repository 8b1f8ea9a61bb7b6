#pragma once

#include <algorithm>
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
      std::vector<Bounded> z = BoundedMixes(u, fn, m * d, double(a.norm_eps));
      for (size_t j = 0; j < z.size(); ++j) {
        z[j] = BoundedAffine(z[j], scale[int64_t(j) < m ? 0 : int64_t(j) < 2 * m ? 1 : 2], base[j]);
      }
      std::vector<Bounded> pre;
      for (int64_t s = 0; s < m; ++s) {
        const Bounded p = BoundedSigmoid(z[size_t(s)]), q = BoundedSigmoid(z[size_t(m + s)]);
        const double v = p.value + double(a.hc_eps);
        pre.push_back({v, p.error + Epsilon(DType::kF32) * v});
        post.value.push_back(2 * q.value);
        post.tolerance.push_back(2 * q.error);
      }
      AppendMixedStreams(u, pre, d, x);
      AppendSinkhorn(z.data() + 2 * m, m, double(a.hc_eps), a.sinkhorn_iters, comb);
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

 private:
  using Matrix = std::vector<std::vector<double>>;

  static void NormalizeRows(Matrix& c, double eps) {
    for (std::vector<double>& row : c) {
      double sum = eps;
      for (double v : row) sum += v;
      for (double& v : row) v /= sum;
    }
  }
  static Matrix Transposed(const Matrix& c) {
    Matrix t(c.size(), std::vector<double>(c.size()));
    for (size_t j = 0; j < c.size(); ++j) {
      for (size_t k = 0; k < c.size(); ++k) t[k][j] = c[j][k];
    }
    return t;
  }
  static Matrix NormalizedColumns(const Matrix& c, double eps) {
    Matrix t = Transposed(c);
    NormalizeRows(t, eps);
    return Transposed(t);
  }

  // Appends the matrix of one token. The logarithms of the softmax are off by twice the error of A plus the
  // roundings of its steps. Normalising rows or columns does not enlarge distances between positive matrices
  // in Hilbert's metric and adds m + 2 roundings of its own, so after 2 * iters steps the error has grown by
  // at most that factor, and twice it in a single entry.
  static void AppendSinkhorn(const Bounded* a, int64_t m, double eps, int iters, Expected& comb) {
    Matrix c(static_cast<size_t>(m));
    double step_error = 0;
    for (int64_t j = 0; j < m; ++j) {
      double max = a[j * m].value, sum = 0;
      for (int64_t k = 0; k < m; ++k) max = std::max(max, a[j * m + k].value);
      for (int64_t k = 0; k < m; ++k) sum += std::exp(a[j * m + k].value - max);
      for (int64_t k = 0; k < m; ++k) {
        const Bounded& v = a[j * m + k];
        c[size_t(j)].push_back(std::exp(v.value - max) / sum + eps);
        const double roundings = double(m) + 4 + (max - v.value);
        step_error = std::max(step_error, 2 * v.error + roundings * Epsilon(DType::kF32));
      }
    }
    c = NormalizedColumns(c, eps);
    for (int i = 1; i < iters; ++i) {
      NormalizeRows(c, eps);
      c = NormalizedColumns(c, eps);
    }
    for (const std::vector<double>& row : c) {
      for (double v : row) {
        comb.value.push_back(v);
        comb.tolerance.push_back(2 * 2 * iters * step_error * v);
      }
    }
  }
};

}  // namespace vexil
