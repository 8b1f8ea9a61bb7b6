#pragma once

#include <algorithm>
#include <limits>
#include <numeric>

#include "ops/top_k/top_k.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<TopK> {
  struct Case {
    int64_t n, m, k;
    enum Fill { kDistinct, kTies, kSpecial, kBf16, kEqual } fill = kDistinct;
    int64_t padding = 0;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t m : {1024, 8192, 32768}) cases.push_back({1, m, 512});
    cases.push_back({16, 8192, 512});
    cases.push_back({128, 1024, 512});
    cases.push_back({2048, 2048, 512});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases = {{4, 17, 5}, {6, 40, 8, Case::kTies}, {6, 24, 8, Case::kSpecial}};
    if (tier == Tier::kSmoke) return cases;
    for (Case c : {Case{0, 8, 2},
                   {1, 1, 1},
                   {5, 3, 9},  // k exceeds m
                   {7, 1000, 1, Case::kTies},
                   {7, 64, 64, Case::kSpecial, 3},
                   {3, 5000, 512},
                   {2, 40000, 1024, Case::kTies},
                   // Around the sizes at which a kernel sorts a row, selects from it, reads it again.
                   {3, 1024, 512, Case::kBf16},
                   {3, 1025, 512},
                   {3, 2048, 1024, Case::kBf16},
                   {3, 3000, 700, Case::kSpecial},
                   {3, 4097, 512, Case::kBf16, 3},
                   {4, 5000, 100, Case::kEqual},
                   {3, 32768, 512},
                   {3, 33000, 512, Case::kBf16},
                   {1, 70000, 600, Case::kEqual},
                   {1, 70000, 600, Case::kBf16},
                   {3, 9000, 2000, Case::kTies},
                   {2, 20000, 4096},
                   {260, 1500, 512, Case::kBf16},
                   {260, 2000, 512, Case::kTies},
                   {260, 2500, 64}}) {
      cases.push_back(c);
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    const char* fill[] = {"distinct", "ties", "special", "bf16", "equal"};
    return "n=" + std::to_string(c.n) + ",m=" + std::to_string(c.m) + ",k=" + std::to_string(c.k) + "," + fill[c.fill] +
           (c.padding ? ",strided" : "");
  }
  static TopK::Args Build(const Case& c, TestArena& m) {
    const Dims wide = {c.n, c.m + c.padding};
    const MutTensorView scores =
        c.fill == Case::kTies ? m.Integers(DType::kF32, wide, -3, 3) : m.Normal(DType::kF32, wide);
    for (int64_t i = 0; i < wide.Count(); ++i) {
      float& v = scores.MutData<float>()[i];
      if (c.fill == Case::kBf16) v = float(RoundTo(DType::kBF16, v));
      if (c.fill == Case::kEqual) v = -0.5f;
    }
    if (c.fill == Case::kSpecial) {
      const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
      const float values[] = {nan, inf, -inf, -0.0f, 0.0f, -nan};
      for (int64_t i = 0; i < wide.Count(); ++i) {
        if (m.rng()() % 3 == 0) scores.MutData<float>()[i] = values[m.rng()() % 6];
      }
    }
    const MutTensorView count = m.Integers(DType::kI32, {c.n}, 0, c.m);
    if (c.n > 0) count.MutData<int32_t>()[0] = int32_t(c.m);
    if (c.n > 1) count.MutData<int32_t>()[1] = 0;
    return {.scores = scores.Columns(0, c.m), .count = count, .indices = m.Poison(DType::kI32, {c.n, c.k})};
  }
  static std::vector<Expected> Reference(const TopK::Args& a) {
    const std::vector<double> scores = ToF64(a.scores);
    const int64_t m = a.scores.dim(1), k = a.indices.dim(1);
    Expected indices{"indices", a.indices, {}, {}};
    for (int64_t i = 0; i < a.scores.dim(0); ++i) {
      const auto score = [&](int64_t j) {
        const double v = scores[size_t(i * m + j)];
        return std::isnan(v) ? -std::numeric_limits<double>::infinity() : v;
      };
      std::vector<int64_t> order(static_cast<size_t>(a.count.Data<int32_t>()[i]));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int64_t l, int64_t r) { return score(l) > score(r); });
      order.resize(size_t(k), -1);
      indices.value.insert(indices.value.end(), order.begin(), order.end());
    }
    indices.tolerance.assign(indices.value.size(), 0);
    return {indices};
  }
  static OpCost Cost(const TopK::Args& a) {
    return {NameOf(a.scores.dtype()), a.scores.dim(0), TotalBytes({a.scores, a.indices}), Count(a.scores)};
  }
  static std::vector<std::string_view> Faults() { return {"ties_to_higher", "ignored_count", "unsorted"}; }
};

}  // namespace vexil
