#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/moe_gate/moe_gate.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<MoeGate> {
  struct Case {
    int64_t n, num_experts;
    int k;
    bool bias, hash;
    double stddev;      // of the logits
    bool ties = false;  // logits are small integers and the bias has two values
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 256, 6, true, false, 2});
    cases.push_back({1, 256, 6, false, true, 2});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases = {{3, 7, 2, true, false, 1}, {3, 7, 2, false, true, 1}, {5, 16, 6, true, false, 1, true}};
    if (tier == Tier::kSmoke) return cases;
    for (bool hash : {false, true}) {
      cases.push_back({0, 8, 2, true, hash, 1});
      cases.push_back({1, 1, 1, false, hash, 1});
      cases.push_back({9, 5, 5, true, hash, 3});
      cases.push_back({17, 256, 6, true, hash, 2});
      cases.push_back({17, 256, 6, false, hash, 15});  // softplus on both sides of its linear part
      cases.push_back({6, 384, 8, true, hash, 1});
      cases.push_back({4, 32, 20, true, hash, 1});
    }
    cases.push_back({9, 33, 6, false, false, 1, true});
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",E=" + std::to_string(c.num_experts) + ",k=" + std::to_string(c.k) +
           ",stddev=" + std::to_string(int(c.stddev)) + (c.bias ? ",bias" : "") + (c.hash ? ",hash" : "") +
           (c.ties ? ",ties" : "");
  }
  static MoeGate::Args Build(const Case& c, TestArena& m) {
    const Dims logits = {c.n, c.num_experts};
    MoeGate::Args a;
    a.logits = c.ties ? m.Integers(DType::kF32, logits, -1, 1) : m.Normal(DType::kF32, logits, c.stddev);
    if (c.bias) {
      const MutTensorView bias = m.Normal(DType::kF32, {c.num_experts}, 0.5);
      for (int64_t e = 0; c.ties && e < c.num_experts; ++e) bias.MutData<float>()[e] = e % 2 ? 0.25f : 0.0f;
      a.bias = bias;
    }
    if (c.hash) {
      constexpr int64_t kVocab = 11;
      a.tid2eid = Table(m, kVocab, c.num_experts, c.k);
      a.ids = m.Integers(DType::kI32, {c.n}, 0, kVocab - 1);
    }
    a.k = c.k;
    a.route_scale = 1.5f;
    a.experts = m.Poison(DType::kI32, {c.n, c.k});
    a.weights = m.Poison(DType::kF32, {c.n, c.k});
    return a;
  }
  static std::vector<Expected> Reference(const MoeGate::Args& a) {
    const std::vector<double> logits = ToF64(a.logits);
    const int64_t num_experts = a.logits.dim(1);
    Expected experts{"experts", a.experts, {}, {}}, weights{"weights", a.weights, {}, {}};
    for (int64_t t = 0; t < a.logits.dim(0); ++t) {
      std::vector<double> p, score;
      for (int64_t e = 0; e < num_experts; ++e) {
        p.push_back(std::sqrt(std::log1p(std::exp(logits[size_t(t * num_experts + e)]))));
        score.push_back(p.back() + (a.bias.empty() ? 0.0 : double(a.bias.Data<float>()[e])));
      }
      std::vector<int64_t> selected(static_cast<size_t>(a.k));
      if (a.tid2eid.empty()) {
        // Selection compares f32 scores. Equal inputs give equal scores in either precision; unequal ones of
        // these cases differ by more than an f32 rounding.
        std::vector<int64_t> order(score.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t l, int64_t r) { return score[size_t(l)] > score[size_t(r)]; });
        std::copy_n(order.begin(), a.k, selected.begin());
      } else {
        std::copy_n(a.tid2eid.Row<int32_t>(a.ids.Data<int32_t>()[t]), a.k, selected.begin());
      }
      double sum = 0;
      for (int64_t e : selected) sum += p[size_t(e)];
      for (int64_t e : selected) {
        experts.value.push_back(double(e));
        experts.tolerance.push_back(0);
        weights.value.push_back(p[size_t(e)] / sum * double(a.route_scale));
        // exp, log1p (2 ulp each), root; k additions; quotient and product.
        weights.tolerance.push_back(weights.value.back() * (12 + a.k) * Epsilon(DType::kF32));
      }
    }
    return {experts, weights};
  }
  static OpCost Cost(const MoeGate::Args& a) {
    return {NameOf(a.logits.dtype()), a.logits.dim(0), TotalBytes({a.logits, a.bias, a.experts, a.weights}),
            10.0 * Count(a.logits)};
  }
  static std::vector<std::string_view> Faults() {
    return {"ties_to_higher", "ignored_bias", "bias_in_weights", "no_route_scale"};
  }

 private:
  // Rows of k distinct experts.
  static TensorView Table(TestArena& m, int64_t vocab, int64_t num_experts, int k) {
    std::vector<int32_t> all(static_cast<size_t>(num_experts)), table;
    std::iota(all.begin(), all.end(), 0);
    for (int64_t v = 0; v < vocab; ++v) {
      std::shuffle(all.begin(), all.end(), m.rng());
      table.insert(table.end(), all.begin(), all.begin() + k);
    }
    return m.Values<int32_t>({vocab, k}, table);
  }
};

}  // namespace vexil
