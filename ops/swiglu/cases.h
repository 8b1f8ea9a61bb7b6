#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/swiglu/swiglu.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<Swiglu> {
  enum class Weights { kNone, kPerRow, kIndexed };
  struct Case {
    int64_t rows, width;
    DType dtype;
    float limit;
    Weights weights;
    bool in_place;
    int64_t padding;
    double stddev;  // of the gate and the linear part
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n * 6, 2048, DType::kBF16, 10, Weights::kIndexed, true, 0, 6});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      for (Weights w : {Weights::kNone, Weights::kPerRow, Weights::kIndexed}) {
        cases.push_back({5, 7, t, 10, w, false, 0, 8});
        cases.push_back({3, 65, t, 0, w, true, 3, 8});
      }
      cases.push_back({4, 33, t, 10, Weights::kIndexed, true, 0, 80});  // exp(-a) overflows
      cases.push_back({1, 1, t, 10, Weights::kNone, false, 0, 1});
      cases.push_back({5, 48, t, 10, Weights::kIndexed, true, 5, 60});  // vectors; exp(-a) near and over f32's range
      cases.push_back({0, 64, t, 10, Weights::kIndexed, false, 0, 1});
      if (tier == Tier::kFull) cases.push_back({7, 2048, t, 10, Weights::kIndexed, false, 0, 6});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    constexpr const char* kWeights[] = {"none", "row", "index"};
    return "rows=" + std::to_string(c.rows) + ",width=" + std::to_string(c.width) + ",dtype=" + NameOf(c.dtype) +
           (c.limit > 0 ? ",clamp" : "") + ",weight=" + kWeights[int(c.weights)] + (c.in_place ? ",in_place" : "") +
           (c.padding ? ",strided" : "") + (c.stddev > 10 ? ",wide" : "");
  }
  static Swiglu::Args Build(const Case& c, TestArena& m) {
    constexpr int64_t kTopK = 3;  // the list of weights is longer than the rows that use it
    const MutTensorView a = NormalRows(m, c.dtype, {c.rows, c.width}, c.padding, c.stddev);
    Swiglu::Args args{.a = a,
                      .b = NormalRows(m, c.dtype, {c.rows, c.width}, c.padding, c.stddev),
                      .limit = c.limit,
                      .y = c.in_place ? a : m.Padded(c.dtype, {c.rows, c.width}, c.padding)};
    if (c.weights == Weights::kPerRow) args.row_weight = m.Uniform(DType::kF32, {c.rows}, 0.1, 1.5);
    if (c.weights == Weights::kIndexed) {
      args.row_weight = m.Uniform(DType::kF32, {c.rows, kTopK}, 0.1, 1.5);
      args.row_index = m.Integers(DType::kI32, {c.rows}, 0, std::max<int64_t>(c.rows * kTopK - 1, 0));
    }
    return args;
  }
  static std::vector<Expected> Reference(const Swiglu::Args& args) {
    const std::vector<double> a = ToF64(args.a), b = ToF64(args.b);
    const int64_t width = args.a.dim(1);
    const double limit = args.limit > 0 ? double(args.limit) : std::numeric_limits<double>::infinity();
    Expected y{"y", args.y, {}, {}};
    for (int64_t i = 0; i < args.a.dims().Count(); ++i) {
      const double gate = std::min(a[size_t(i)], limit), up = std::clamp(b[size_t(i)], -limit, limit);
      const double others = up * Weight(args, i / width);
      const double v = gate / (1 + std::exp(-gate)) * others;
      y.value.push_back(v);
      // f32: the exponential (2), the sum, the quotient and two products. The last term is for gates whose
      // exponential overflows f32: the result is then 0 instead of a number below |gate| * 2^-126.
      y.tolerance.push_back(std::abs(v) * (Epsilon(args.y.dtype()) + 6 * Epsilon(DType::kF32)) +
                            std::abs(gate * others) * 0x1p-126);
    }
    return {y, UntouchedPadding(args.y)};
  }
  static OpCost Cost(const Swiglu::Args& a) {
    return {NameOf(a.a.dtype()), a.a.dim(0), TotalBytes({a.a, a.b, a.y}), 10.0 * Count(a.y)};
  }
  static std::vector<std::string_view> Faults() {
    return {"gate_not_clamped", "gate_clamped_below", "up_not_clamped_below", "weight_after_rounding", "index_ignored"};
  }

 private:
  static double Weight(const Swiglu::Args& args, int64_t row) {
    if (args.row_weight.empty()) return 1;
    const int64_t i = args.row_index.empty() ? row : args.row_index.Data<int32_t>()[row];
    return args.row_weight.Data<float>()[i];
  }
};

}  // namespace vexil
