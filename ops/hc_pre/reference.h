// Float64 parts of the hyper-connection references with their f32 error bounds: for the cases of HcPre and HcHead.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "testing/conformance.h"

namespace vexil {

// A value and how far f32 arithmetic may be from it.
struct Bounded {
  double value, error;
};

// sum a[i] * b[i]. Any order of n f32 additions errs by at most n roundings of sum |a*b|. For long sums of
// independent terms that is far too generous: a partial sum stays near its random walk, within a few times
// sqrt(sum (a*b)^2) + |sum|, and n independent roundings of it add up like their root.
inline Bounded BoundedDot(const double* a, const double* b, int64_t n) {
  double sum = 0, absolute = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double term = a[i] * b[i];
    sum += term;
    absolute += std::abs(term);
    squares += term * term;
  }
  const double walk = 4 * std::sqrt(double(n)) * (std::sqrt(squares) + std::abs(sum));
  return {sum, Epsilon(DType::kF32) * std::min(double(n) * absolute, walk)};
}

// sigmoid(v): its slope is at most 1/4; the exponential (2), the sum and the quotient round.
inline Bounded BoundedSigmoid(const Bounded& v) {
  const double s = 1 / (1 + std::exp(-v.value));
  return {s, v.error / 4 + 4 * Epsilon(DType::kF32) * s};
}

// v * scale + base.
inline Bounded BoundedAffine(const Bounded& v, double scale, double base) {
  const double product = v.value * scale;
  return {product + base, v.error * std::abs(scale) + 2 * Epsilon(DType::kF32) * (std::abs(product) + std::abs(base))};
}

// The mixes of one token: ( fn . u ) / sqrt( mean(u^2) + eps ) for each row of fn [rows, n].
inline std::vector<Bounded> BoundedMixes(const double* u, const std::vector<double>& fn, int64_t n, double eps) {
  const Bounded squares = BoundedDot(u, u, n);
  const double mean = squares.value / double(n) + eps, r = 1 / std::sqrt(mean);
  // The root halves the relative error of the mean; the mean, the sum with eps, root, quotient and product round.
  const double relative = squares.error / double(n) / mean / 2 + 5 * Epsilon(DType::kF32);
  std::vector<Bounded> mixes;
  for (size_t row = 0; row < fn.size(); row += size_t(n)) {
    const Bounded dot = BoundedDot(fn.data() + row, u, n);
    mixes.push_back({dot.value * r, dot.error * r + std::abs(dot.value * r) * relative});
  }
  return mixes;
}

// Appends x[c] = sum_s pre[s] * u[s*d + c] for one token.
inline void AppendMixedStreams(const double* u, const std::vector<Bounded>& pre, int64_t d, Expected& x) {
  for (int64_t c = 0; c < d; ++c) {
    double v = 0, error = 0;
    for (size_t s = 0; s < pre.size(); ++s) {
      const double h = u[int64_t(s) * d + c];
      v += pre[s].value * h;
      error += (pre[s].error + double(pre.size() + 1) * Epsilon(DType::kF32) * pre[s].value) * std::abs(h);
    }
    x.value.push_back(v);
    x.tolerance.push_back(std::abs(v) * Epsilon(x.output.dtype()) + error);
  }
}

// comb of one token by Sinkhorn's algorithm (ops/hc_pre/hc_pre.h).
using StreamMatrix = std::vector<std::vector<double>>;

inline void NormalizeRows(StreamMatrix& c, double eps) {
  for (std::vector<double>& row : c) {
    double sum = eps;
    for (double v : row) sum += v;
    for (double& v : row) v /= sum;
  }
}
inline StreamMatrix Transposed(const StreamMatrix& c) {
  StreamMatrix t(c.size(), std::vector<double>(c.size()));
  for (size_t j = 0; j < c.size(); ++j) {
    for (size_t k = 0; k < c.size(); ++k) t[k][j] = c[j][k];
  }
  return t;
}
inline StreamMatrix NormalizedColumns(const StreamMatrix& c, double eps) {
  StreamMatrix t = Transposed(c);
  NormalizeRows(t, eps);
  return Transposed(t);
}

// Appends the matrix of one token. The logarithms of the softmax are off by twice the error of A plus the
// roundings of its steps. Normalising rows or columns does not enlarge distances between positive matrices
// in Hilbert's metric and adds m + 2 roundings of its own, so after 2 * iters steps the error has grown by
// at most that factor, and twice it in a single entry.
inline void AppendSinkhorn(const Bounded* a, int64_t m, double eps, int iters, Expected& comb) {
  StreamMatrix c(static_cast<size_t>(m));
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

// Appends post and comb of one token and returns pre, from its (2+m)m mixes.
inline std::vector<Bounded> AppendStreamWeights(std::vector<Bounded> z, const std::vector<double>& scale,
                                                const std::vector<double>& base, int64_t m, double hc_eps, int iters,
                                                Expected& post, Expected& comb) {
  for (size_t j = 0; j < z.size(); ++j) {
    z[j] = BoundedAffine(z[j], scale[int64_t(j) < m ? 0 : int64_t(j) < 2 * m ? 1 : 2], base[j]);
  }
  std::vector<Bounded> pre;
  for (int64_t s = 0; s < m; ++s) {
    const Bounded p = BoundedSigmoid(z[size_t(s)]), q = BoundedSigmoid(z[size_t(m + s)]);
    const double v = p.value + hc_eps;
    pre.push_back({v, p.error + Epsilon(DType::kF32) * v});
    post.value.push_back(2 * q.value);
    post.tolerance.push_back(2 * q.error);
  }
  AppendSinkhorn(z.data() + 2 * m, m, hc_eps, iters, comb);
  return pre;
}

}  // namespace vexil
