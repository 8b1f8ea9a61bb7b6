#pragma once

#include <limits>

#include "ops/argmax/argmax.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<Argmax> {
  struct Case {
    int64_t n, vocab;
    enum Fill { kDistinct, kTies, kNaN, kInfinite, kAllNaN, kAscending } fill;
    int64_t padding = 0;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : {1, 4, 16}) cases.push_back({n, 129280, Case::kDistinct});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases = {{3, 7, Case::kDistinct}, {5, 33, Case::kTies}, {5, 9, Case::kNaN}};
    if (tier == Tier::kSmoke) return cases;
    for (Case c : {Case{0, 4, Case::kDistinct},
                   {1, 1, Case::kDistinct},
                   {2, 5, Case::kAllNaN},
                   {2, 64, Case::kAscending},
                   {4, 6, Case::kInfinite},
                   {4, 100, Case::kTies, 5},
                   {3, 13001, Case::kTies},
                   {2, 13001, Case::kAllNaN},
                   {2, 13001, Case::kNaN},
                   {2, 129280, Case::kDistinct},
                   {3, 2048, Case::kTies},
                   {3, 2049, Case::kAscending}}) {
      cases.push_back(c);
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    const char* fill[] = {"distinct", "ties", "nan", "infinite", "all_nan", "ascending"};
    return "n=" + std::to_string(c.n) + ",V=" + std::to_string(c.vocab) + "," + fill[c.fill] +
           (c.padding ? ",strided" : "");
  }
  static Argmax::Args Build(const Case& c, TestArena& m) {
    const Dims wide = {c.n, c.vocab + c.padding};
    const MutTensorView logits =
        c.fill == Case::kTies ? m.Integers(DType::kF32, wide, -2, 2) : m.Normal(DType::kF32, wide);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < wide.Count(); ++i) {
      float& v = logits.MutData<float>()[i];
      if (c.fill == Case::kAllNaN || (c.fill == Case::kNaN && i % 2 == 0)) v = nan;
      if (c.fill == Case::kAscending) v = float(i);
      if (c.fill == Case::kInfinite) v = i % 3 ? -inf : v;
      if (c.fill == Case::kInfinite && i / wide[1] % 2) v = -inf;  // whole rows
    }
    return {.logits = logits.Columns(0, c.vocab), .index = m.Poison(DType::kI32, {c.n})};
  }
  static std::vector<Expected> Reference(const Argmax::Args& a) {
    const std::vector<double> logits = ToF64(a.logits);
    const int64_t vocab = a.logits.dim(1);
    Expected index{"index", a.index, {}, {}};
    for (int64_t i = 0; i < a.logits.dim(0); ++i) {
      int64_t best = 0;
      for (int64_t v = 0; v < vocab; ++v) {
        const double x = logits[size_t(i * vocab + v)], y = logits[size_t(i * vocab + best)];
        if (x > y || (std::isnan(y) && !std::isnan(x))) best = v;
      }
      index.value.push_back(double(best));
      index.tolerance.push_back(0);
    }
    return {index};
  }
  static OpCost Cost(const Argmax::Args& a) {
    return {NameOf(a.logits.dtype()), a.logits.dim(0), TotalBytes({a.logits}), Count(a.logits)};
  }
  static std::vector<std::string_view> Faults() { return {"ties_to_higher", "nan_wins"}; }
};

}  // namespace vexil
