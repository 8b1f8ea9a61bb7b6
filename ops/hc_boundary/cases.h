#pragma once

#include <algorithm>
#include <cmath>

#include "ops/hc_boundary/hc_boundary.h"
#include "ops/hc_pre/reference.h"
#include "ops/quantize_activation/reference.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<HcBoundary> {
  struct Case {
    int64_t n, streams, d;
    DType dtype;
    bool post, codes;
    int64_t block = 128;
    bool in_place = false;  // the weights of the next sub-layer replace those of the last
    float eps = 1e-6f;
    double stddev = 1;
    int64_t padding = 0;
    int iters = 20;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : {1, 16, 128, 8192}) cases.push_back({n, 4, 4096, DType::kBF16, true, true, 128, true});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    constexpr float kModelEps = 1e-6f, kLargeEps = 1e-2f;  // a large eps shows where it is used
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({5, 4, 7, t, true, true, 4, false, kModelEps, 1, 0, 3});
      cases.push_back({3, 2, 33, t, true, true, 16, true, kLargeEps, 1e-2, 5, 1});
      cases.push_back({6, 3, 33, t, false, true, 16, false, kLargeEps, 1e-2, 3, 1});
      cases.push_back({2, 1, 9, t, false, false});
      cases.push_back({9, 4, 128, t, true, true});
      cases.push_back({3, 4, 256, t, true, false, 128, true});
      cases.push_back({2, 4, 128, t, false, true, 128, false, kLargeEps, 1e-2});
      cases.push_back({0, 4, 128, t, true, true});
      if (tier == Tier::kSmoke) continue;
      for (bool post : {false, true}) {
        for (bool codes : {false, true}) cases.push_back({18, 4, 384, t, post, codes, 128, true, kModelEps, 1, 8});
      }
      cases.push_back({1, 1, 1, t, true, true});
      cases.push_back({6, 8, 130, t, true, true});
      cases.push_back({3, 4, 4096, t, true, true, 128, true});
      cases.push_back({2, 4, 4224, t, true, true});  // wider than a row in registers
      cases.push_back({33, 4, 1040, t, true, true, 128, true});
      cases.push_back({270, 4, 256, t, false, true});  // many tokens
      cases.push_back({530, 4, 128, t, true, true, 128, true});
      if (t == DType::kBF16) cases.push_back({66, 4, 4096, t, true, true, 128, true});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",m=" + std::to_string(c.streams) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype) + (c.post ? ",post" : "") +
           (c.codes ? ",codes=" + std::to_string(c.block) : "") + (c.in_place ? ",in_place" : "") +
           ",iters=" + std::to_string(c.iters) + (c.eps > 1e-3f ? ",large_eps" : "") + (c.stddev < 1 ? ",small" : "") +
           (c.padding ? ",strided" : "");
  }
  static HcBoundary::Args Build(const Case& c, TestArena& m) {
    const int64_t mixes = (2 + c.streams) * c.streams, width = c.streams * c.d;
    const Dims post{c.n, c.streams}, comb{c.n, c.streams, c.streams};
    HcBoundary::Args a{.y = {},
                       .y_post = {},
                       .y_comb = {},
                       .h = NormalRows(m, c.dtype, {c.n, c.streams, c.d}, c.padding, c.stddev),
                       .fn = m.Normal(DType::kF32, {mixes, width}, 1 / std::sqrt(double(width))),
                       .scale = m.Uniform(DType::kF32, {3}, 0.5, 1.5),
                       .base = m.Normal(DType::kF32, {mixes}),
                       .post = {},
                       .comb = {},
                       .norm = m.Normal(DType::kF32, {c.d}, 0.25, 1),
                       .x = m.Padded(c.dtype, {c.n, c.d}, c.padding),
                       .codes = {},
                       .codes_scale = {},
                       .norm_eps = c.eps,
                       .hc_eps = c.eps,
                       .sinkhorn_iters = c.iters,
                       .block = c.block};
    if (c.post) {
      a.y = NormalRows(m, c.dtype, {c.n, c.d}, c.padding, c.stddev);
      const MutTensorView y_post = m.Uniform(DType::kF32, post, 0, 2), y_comb = m.Uniform(DType::kF32, comb, 0, 1);
      a.y_post = y_post, a.y_comb = y_comb;
      if (c.in_place) a.post = y_post, a.comb = y_comb;
    }
    if (a.post.empty()) a.post = m.Poison(DType::kF32, post), a.comb = m.Poison(DType::kF32, comb);
    if (c.codes) {
      a.codes = m.Poison(DType::kE4M3, {c.n, c.d});
      a.codes_scale = m.Poison(DType::kE8M0, {c.n, (c.d + c.block - 1) / c.block});
    }
    return a;
  }

  static std::vector<Expected> Reference(const HcBoundary::Args& a) {
    const std::vector<double> fn = ToF64(a.fn), scale = ToF64(a.scale), base = ToF64(a.base), norm = ToF64(a.norm);
    const int64_t m = a.h.dim(1), d = a.h.dim(2);
    const std::vector<Bounded> streams = Streams(a);
    Expected h{"h", a.h, {}, {}}, x{"x", a.x, {}, {}};
    Expected post{"post", a.post, {}, {}}, comb{"comb", a.comb, {}, {}};
    Expected codes{"codes", a.codes, {}, {}}, codes_scale{"codes_scale", a.codes_scale, {}, {}};
    for (const Bounded& v : streams) Append(v, h);
    for (int64_t t = 0; t < a.h.dim(0); ++t) {
      const Bounded* u = streams.data() + t * m * d;
      const std::vector<Bounded> pre = AppendStreamWeights(Mixes(u, fn, m * d, double(a.norm_eps)), scale, base, m,
                                                           double(a.hc_eps), a.sinkhorn_iters, post, comb);
      const std::vector<Bounded> row = Normed(Mixture(u, pre, d, a.x.dtype()), norm, double(a.norm_eps), a.x.dtype());
      for (const Bounded& v : row) Append(v, x);
      if (a.codes.empty()) continue;
      for (int64_t c = 0; c < d; c += a.block) {
        AppendCodes(row.data() + c, std::min(a.block, d - c), codes, codes_scale);
      }
    }
    if (a.codes.empty()) return {h, x, post, comb, UntouchedPadding(a.h), UntouchedPadding(a.x)};
    return {h, x, post, comb, codes, codes_scale, UntouchedPadding(a.h), UntouchedPadding(a.x)};
  }
  static OpCost Cost(const HcBoundary::Args& a) {
    const double updated = a.y.empty() ? 0 : TotalBytes({a.y, a.y_post, a.y_comb, a.h});
    return {NameOf(a.h.dtype()), a.h.dim(0),
            updated + TotalBytes({a.h, a.fn, a.norm, a.x, a.post, a.comb, a.codes, a.codes_scale}),
            2.0 * Count(a.h) * double(a.fn.dim(0) + a.h.dim(1) + 3)};
  }
  static std::vector<std::string_view> Faults() {
    return {"without_post",    "without_codes",         "comb_transposed",     "first_stream_dropped", "no_norm_eps",
            "pre_without_eps", "post_not_doubled",      "softmax_without_eps", "one_iteration_less",   "no_eps",
            "wrong_mean",      "exponent_rounded_down", "short_block_dropped"};
  }

 private:
  static void Append(const Bounded& v, Expected& to) {
    to.value.push_back(v.value);
    to.tolerance.push_back(v.error);
  }

  // A value that is known up to an error is rounded to the dtype: to one value where all of them round alike, as
  // nearly all do.
  static Bounded Round(DType t, const Bounded& v) {
    const double value = RoundTo(t, v.value);
    const double low = value - RoundTo(t, v.value - v.error), high = RoundTo(t, v.value + v.error) - value;
    return {value, std::max(low, high)};
  }

  // The streams that the sub-layer behind reads, all [n * m * D] of them.
  static std::vector<Bounded> Streams(const HcBoundary::Args& a) {
    const std::vector<double> h = ToF64(a.h);
    const int64_t m = a.h.dim(1), d = a.h.dim(2);
    std::vector<Bounded> streams;
    if (a.y.empty()) {
      for (double v : h) streams.push_back({v, 0});
      return streams;
    }
    const std::vector<double> y = ToF64(a.y), post = ToF64(a.y_post), comb = ToF64(a.y_comb);
    for (int64_t t = 0; t < a.h.dim(0); ++t) {
      for (int64_t k = 0; k < m; ++k) {
        for (int64_t c = 0; c < d; ++c) {
          double v = post[size_t(t * m + k)] * y[size_t(t * d + c)], absolute = std::abs(v);
          for (int64_t j = 0; j < m; ++j) {
            const double term = comb[size_t((t * m + j) * m + k)] * h[size_t((t * m + j) * d + c)];
            v += term;
            absolute += std::abs(term);
          }
          // A product and at most m sums round each term.
          streams.push_back(Round(a.h.dtype(), {v, double(m + 1) * Epsilon(DType::kF32) * absolute}));
        }
      }
    }
    return streams;
  }

  // As BoundedMixes, of streams that are not known exactly.
  static std::vector<Bounded> Mixes(const Bounded* u, const std::vector<double>& fn, int64_t width, double eps) {
    std::vector<double> values(static_cast<size_t>(width));
    double square_error = 0;
    for (int64_t i = 0; i < width; ++i) {
      values[size_t(i)] = u[i].value;
      square_error += (2 * std::abs(u[i].value) + u[i].error) * u[i].error;
    }
    std::vector<Bounded> mixes = BoundedMixes(values.data(), fn, width, eps);
    double mean = eps;
    for (double v : values) mean += v * v / double(width);
    const double r = 1 / std::sqrt(mean), relative = square_error / double(width) / mean / 2;
    for (size_t j = 0; j < mixes.size(); ++j) {
      double error = 0;
      for (int64_t i = 0; i < width; ++i) error += std::abs(fn[j * size_t(width) + size_t(i)]) * u[i].error;
      mixes[j].error += error * r + std::abs(mixes[j].value) * relative;
    }
    return mixes;
  }

  static std::vector<Bounded> Mixture(const Bounded* u, const std::vector<Bounded>& pre, int64_t d, DType t) {
    std::vector<Bounded> x;
    for (int64_t c = 0; c < d; ++c) {
      double v = 0, error = 0;
      for (size_t s = 0; s < pre.size(); ++s) {
        const Bounded& h = u[int64_t(s) * d + c];
        v += pre[s].value * h.value;
        error += (pre[s].error + double(pre.size() + 1) * Epsilon(DType::kF32) * pre[s].value) * std::abs(h.value) +
                 pre[s].value * h.error;
      }
      x.push_back(Round(t, {v, error}));
    }
    return x;
  }

  static std::vector<Bounded> Normed(std::vector<Bounded> x, const std::vector<double>& weight, double eps, DType t) {
    const double d = double(x.size());
    double squares = 0, error = 0;
    for (const Bounded& v : x) {
      squares += v.value * v.value;
      error += (2 * std::abs(v.value) + v.error) * v.error;
    }
    const double mean = squares / d + eps, r = 1 / std::sqrt(mean);
    // The f32 sum of d squares is off by at most d roundings, halved by the root; then the root, the quotient and two
    // products.
    const double relative = (d / 2 + 5) * Epsilon(DType::kF32) + error / d / mean / 2;
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = weight[i] * x[i].value * r;
      x[i] = Round(t, {v, std::abs(weight[i]) * r * x[i].error + std::abs(v) * relative});
    }
    return x;
  }

  // A block of n values: its codes and its scale, and how far they go when the values are at either end of their range.
  static void AppendCodes(const Bounded* x, int64_t n, Expected& codes, Expected& scale) {
    std::vector<double> ends[3];  // the values, the smaller magnitudes, the larger ones
    for (int64_t i = 0; i < n; ++i) {
      const double size = std::abs(x[i].value);
      ends[0].push_back(x[i].value);
      ends[1].push_back(std::copysign(std::max(size - x[i].error, 0.0), x[i].value));
      ends[2].push_back(std::copysign(size + x[i].error, x[i].value));
    }
    const RoundedBlock b = RoundBlock(ends[0].data(), n, E4M3Format()),
                       low = RoundBlock(ends[1].data(), n, E4M3Format()),
                       high = RoundBlock(ends[2].data(), n, E4M3Format());
    scale.value.push_back(b.scale);
    scale.tolerance.push_back(high.scale - low.scale);
    for (size_t i = 0; i < size_t(n); ++i) {
      codes.value.push_back(b.codes[i]);
      // With either scale anything between the codes of both is possible, and all codes are at most the largest.
      const bool one_scale = high.scale == low.scale;
      codes.tolerance.push_back(
          one_scale ? std::max(std::abs(low.codes[i] - b.codes[i]), std::abs(high.codes[i] - b.codes[i]))
                    : 2 * E4M3::kMax);
    }
  }
};

}  // namespace vexil
