// The steps of FinishRows one after the other on intervals, so that a value next to a rounding boundary of one step is
// followed on both sides of it through the steps after. Where a step can, it is the reference of its op.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/finish_rows/finish_rows.h"
#include "ops/head_rms/cases.h"
#include "ops/quantize_activation/reference.h"
#include "ops/rms_norm/cases.h"
#include "testing/interval.h"

namespace vexil {

// The rows of a set [n * H, d], row-major.
class FinishedRows {
 public:
  // `rows`: what the set's x holds, where that is not its memory.
  explicit FinishedRows(const FinishRows::Set& s, std::vector<Interval> rows = {})
      : s_(s), t_(s.x.dtype()), d_(s.x.dim(2)), heads_(s.x.dim(1)), v_(std::move(rows)) {
    if (v_.empty()) {
      for (double x : ToF64(s.x)) v_.push_back({x, x});
    }
    Norm();
    for (int64_t r = 0; r < s.x.dim(0) * heads_; ++r) {
      Interval* row = v_.data() + r * d_;
      if (!s.freqs.empty()) Rotate(row, s.positions.Data<int32_t>()[r / heads_]);
      if (s.hadamard) Hadamard(row);
      for (int64_t begin = 0; begin < s.rounded; begin += s.block) {
        Round(row + begin, std::min(s.block, s.rounded - begin));
      }
    }
  }
  Expected X() const {
    Expected x{"x", s_.x, {}, {}};
    for (const Interval& i : v_) Append(x, i);
    return x;
  }
  Expected Pool() const {
    Expected pool{"pool", s_.pool, ToF64(s_.pool), {}};
    pool.tolerance.assign(pool.value.size(), 0);
    for (int64_t i = 0; i < s_.rows.dim(0); ++i) {
      const int64_t place = s_.rows.Data<int32_t>()[i];
      for (int64_t c = 0; place >= 0 && c < d_; ++c) {
        const Interval& v = v_[size_t(i * d_ + c)];
        pool.value[size_t(place * d_ + c)] = (v.low + v.high) / 2;
        pool.tolerance[size_t(place * d_ + c)] = (v.high - v.low) / 2;
      }
    }
    return pool;
  }

 private:
  static constexpr double kF32 = Epsilon(DType::kF32);

  void Norm() {
    if (s_.norm == FinishRows::Norm::kNone) return;
    if (s_.norm == FinishRows::Norm::kHead) {
      const Expected y = Conformance<HeadRms>::Reference({.x = s_.x, .eps = s_.eps})[0];
      for (size_t i = 0; i < v_.size(); ++i) v_[i] = RoundTo(t_, Around(y.value[i], y.tolerance[i]));
      return;
    }
    const std::vector<double> w = ToF64(s_.weight);
    for (size_t r = 0; r < v_.size(); r += size_t(d_)) {
      // The input's own uncertainty moves the mean square by at most `moved`.
      double sum = 0, moved = 0;
      for (size_t i = r; i < r + size_t(d_); ++i) {
        const double x = Middle(v_[i]), half = Half(v_[i]);
        sum += x * x;
        moved += 2 * std::abs(x) * half + half * half;
      }
      const double mean = sum / double(d_) + double(s_.eps), root = std::sqrt(mean);
      const double error = moved / double(d_) / mean / 2 + (double(d_) / 2 + 5) * kF32;  // as in RmsNorm's reference
      for (size_t i = r; i < r + size_t(d_); ++i) {
        const double factor = w[i - r] / root, y = Middle(v_[i]) * factor;
        v_[i] = RoundTo(t_, Around(y, std::abs(y) * error + Half(v_[i]) * std::abs(factor) * (1 + error)));
      }
    }
  }
  void Rotate(Interval* row, int64_t position) const {
    const int64_t pairs = s_.freqs.dim(0);
    for (int64_t i = 0; i < pairs; ++i) {
      const double angle = RoundTo(DType::kF32, double(position) * double(s_.freqs.Data<float>()[i]));
      const double cos = std::cos(angle), sin = s_.inverse ? -std::sin(angle) : std::sin(angle);
      Interval& a = row[d_ - 2 * pairs + 2 * i];
      Interval& b = row[d_ - 2 * pairs + 2 * i + 1];
      const Interval first = Sum(a, cos, b, -sin), second = Sum(a, sin, b, cos);
      a = first, b = second;
    }
  }
  // a * u + b * v in f32, where u and v are rounded: three roundings of each product's magnitude (ops/rope/cases.h).
  Interval Sum(const Interval& a, double u, const Interval& b, double v) const {
    const double x = Middle(a) * u, y = Middle(b) * v;
    const double error = Half(a) * std::abs(u) + Half(b) * std::abs(v) + 3 * kF32 * (std::abs(x) + std::abs(y));
    return RoundTo(t_, Around(x + y, error));
  }
  void Hadamard(Interval* row) const {
    const double factor = RoundTo(DType::kF32, 1 / std::sqrt(double(d_)));
    double absolute = 0, half = 0;
    for (int64_t i = 0; i < d_; ++i) absolute += std::abs(Middle(row[i])), half += Half(row[i]);
    std::vector<Interval> y;
    for (int64_t i = 0; i < d_; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < d_; ++j) sum += std::popcount(uint64_t(i & j)) % 2 ? -Middle(row[j]) : Middle(row[j]);
      const double v = sum * factor;
      const double error = std::abs(v) * kF32 + (std::log2(double(d_)) * kF32 * absolute + half) * factor;
      y.push_back(RoundTo(t_, Around(v, error)));
    }
    std::copy(y.begin(), y.end(), row);
  }
  // Rounding is monotone for a given scale; the largest magnitude may allow two scales.
  void Round(Interval* block, int64_t n) const {
    const TargetFormat format = s_.format == FakeQuantize::Format::kE4M3 ? E4M3Format() : E2M1Format();
    std::vector<double> least, most;
    for (int64_t i = 0; i < n; ++i) {
      const auto [low, high] = std::minmax({std::abs(block[i].low), std::abs(block[i].high)});
      least.push_back(block[i].low < 0 && block[i].high > 0 ? 0 : low);
      most.push_back(high);
    }
    const double scales[] = {RoundBlock(least.data(), n, format).scale, RoundBlock(most.data(), n, format).scale};
    for (int64_t i = 0; i < n; ++i) {
      const Interval x = block[i];
      Interval& y = block[i] = {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
      for (double scale : scales) {
        if (std::isnan(scale)) y = {scale, scale};
        y.low = std::min(y.low, Nearest(x.low, scale, format));
        y.high = std::max(y.high, Nearest(x.high, scale, format));
      }
    }
  }
  static double Nearest(double v, double scale, const TargetFormat& format) {
    if (std::isnan(scale)) return scale;
    return std::copysign(NearestMagnitude(format.magnitudes, std::abs(v) / scale), v) * scale;
  }
  static double Middle(const Interval& i) { return (i.low + i.high) / 2; }
  static double Half(const Interval& i) { return (i.high - i.low) / 2; }

  const FinishRows::Set& s_;
  DType t_;
  int64_t d_, heads_;
  std::vector<Interval> v_;
};

}  // namespace vexil
