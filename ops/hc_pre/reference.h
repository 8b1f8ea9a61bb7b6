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

}  // namespace vexil
