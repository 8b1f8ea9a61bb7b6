#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/sample/sample.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<Sample> {
  struct Case {
    int64_t vocab;
    double stddev;  // of the logits; 0: small integers, so that many tie
    float temperature = 1;
    int32_t top_k = 0;
    float top_p = 1, min_p = 0;
    bool special = false;  // -infinity among the logits, NaN and infinity in some rows
    int64_t n = 24, padding = 0;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : {1, 4, 16}) {
      cases.push_back({129280, 4, 1, 0, 1, 0, false, n});
      cases.push_back({129280, 4, 0.6f, 0, 0.95f, 0, false, n});
    }
    cases.push_back({129280, 4, 0.6f, 50, 0.95f, 0, false, 1});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases = {{50, 2},
                               {50, 2, 0},
                               {50, 2, 0.7f, 5},
                               {50, 2, 1, 0, 0.8f},
                               {50, 2, 1, 0, 1, 0.1f},
                               {40, 0, 1.3f, 9, 0.7f, 0.05f}};
    if (tier == Tier::kSmoke) return cases;
    for (Case c : {Case{50, 2, 1, 0, 1, 0, false, 0},
                   {1, 1, 1, 1, 0.5f, 0.5f},
                   {30, 0, 0},                            // greedy with ties
                   {30, 2, -1, 4},                        // greedy ignores the filters
                   {30, 2, 1e-9f},                        // the smallest temperature
                   {30, 2, 50, 1000, 0.9f},               // top_k exceeds the vocabulary
                   {30, 2, 1, 1},                         // top_k = 1 is greedy
                   {30, 2, 1, 0, 0},                      // top_p = 0 keeps one token
                   {30, 2, 1, 0, 1, 1.5f},                // min_p above 1 keeps the best
                   {30, 0, 1, 0, 0.6f, 0, false, 24, 3},  // ties across the nucleus' edge
                   {16, 2},                               // every column matters
                   {30, 2, 1, 0, 1, 0, true},
                   {30, 2, 1, 12, 0.9f, 0.01f, true},
                   {5003, 2, 1, 0, 0.999f, 0, false, 3},  // tokens far below the best
                   {5003, 4, 1, 4000, 0.999f, 0, false, 3},
                   {5003, 1, 2, 300, 1, 0.1f, false, 3},
                   {5003, 1, 1, 0, 1, 0.1f, false, 3},
                   {5003, 1, 1, 0, 0.9f, 0, true},
                   {129280, 4, 1, 0, 1, 0, false, 2},
                   {129280, 4, 0.6f, 0, 0.95f, 0, false, 2},
                   // Around the sizes at which a kernel splits a row, sorts what is left of it, or cannot.
                   {2048, 2, 1, 0, 1, 0.001f, false, 3},
                   {2049, 0, 1, 0, 1, 0, false, 3},
                   {4097, 0, 1, 2048, 0.9f, 0, false, 3},
                   {20000, 0, 1, 30, 0.9f, 0, false, 3},
                   {20000, 1, 1, 0, 0.9f, 0.2f, false, 3},
                   {129280, 3, 0.6f, 50, 0.95f, 0.02f, false, 2}}) {
      cases.push_back(c);
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    const auto number = [](double v) {
      std::string s = std::to_string(v);
      return s.substr(0, s.find_last_not_of("0.") + 1) + (v == 0 ? "0" : "");
    };
    return "n=" + std::to_string(c.n) + ",V=" + std::to_string(c.vocab) + ",stddev=" + number(c.stddev) +
           ",t=" + number(c.temperature) + ",top_k=" + std::to_string(c.top_k) + ",top_p=" + number(c.top_p) +
           ",min_p=" + number(c.min_p) + (c.special ? ",special" : "") + (c.padding ? ",strided" : "");
  }
  static Sample::Args Build(const Case& c, TestArena& m) {
    const auto all = [&](float v) { return m.Values<float>({c.n}, std::vector<float>(size_t(c.n), v)); };
    const MutTensorView uniform = m.Poison(DType::kF32, {c.n});
    const Sample::Args a = {.logits = Logits(c, m).Columns(0, c.vocab),
                            .temperature = all(c.temperature),
                            .top_k = m.Values<int32_t>({c.n}, std::vector<int32_t>(size_t(c.n), c.top_k)),
                            .top_p = all(c.top_p),
                            .min_p = all(c.min_p),
                            .uniform = uniform,
                            .token = m.Poison(DType::kI32, {c.n})};
    // A number that a rounding could carry across the edge of a token's interval decides nothing: draw another.
    std::uniform_real_distribution<float> draw(0, 0.999f);
    for (int64_t i = 0; i < c.n; ++i) {
      const Distribution d = DistributionOf(a, i);
      double u;
      do {
        u = uniform.MutData<float>()[i] = draw(m.rng());
      } while (std::any_of(d.end.begin(), d.end.end(), [&](double e) { return std::abs(e - u) < 1e-6; }));
    }
    return a;
  }
  static std::vector<Expected> Reference(const Sample::Args& a) {
    Expected token{"token", a.token, {}, {}};
    for (int64_t i = 0; i < a.logits.dim(0); ++i) {
      const Distribution d = DistributionOf(a, i);
      const double u = a.uniform.Data<float>()[i];
      const auto at = std::find_if(d.end.begin(), d.end.end(), [&](double e) { return e > u; });
      token.value.push_back(double(d.token[size_t(at - d.end.begin())]));
      token.tolerance.push_back(0);
    }
    return {token};
  }
  static OpCost Cost(const Sample::Args& a) {
    return {NameOf(a.logits.dtype()), a.logits.dim(0), TotalBytes({a.logits}), 10.0 * Count(a.logits)};
  }
  static std::vector<std::string_view> Faults() {
    return {"top_k_plus_one", "crossing_token_dropped", "ignored_min_p",       "no_renormalisation",
            "no_temperature", "ties_to_higher",         "damaged_row_answered"};
  }

 private:
  // The tokens that can be drawn and the upper ends of their intervals of `uniform`.
  struct Distribution {
    std::vector<int64_t> token;
    std::vector<double> end;
  };

  static MutTensorView Logits(const Case& c, TestArena& m) {
    const Dims wide = {c.n, c.vocab + c.padding};
    const MutTensorView logits =
        c.stddev == 0 ? m.Integers(DType::kF32, wide, -2, 2) : m.Normal(DType::kF32, wide, c.stddev);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; c.special && i < wide.Count(); ++i) {
      float& v = logits.MutData<float>()[i];
      const int64_t row = i / wide[1] % 8, column = i % wide[1];
      if (i % 3 == 0) v = -inf;
      if (row == 3 && column == wide[1] - c.padding - 1) v = nan;
      if (row == 5) v = -inf;  // no finite logit in the row
      if (row == 6) v = nan;
      if (row == 7 && column == 4) v = inf;
    }
    return logits;
  }

  static Distribution DistributionOf(const Sample::Args& a, int64_t i) {
    const int64_t vocab = a.logits.dim(1);
    const double t = a.temperature.Data<float>()[i], top_p = a.top_p.Data<float>()[i];
    const int64_t top_k = a.top_k.Data<int32_t>()[i];
    std::vector<double> x;
    for (int64_t v = 0; v < vocab; ++v) x.push_back(a.logits.Row<float>(i)[v]);
    if (std::any_of(x.begin(), x.end(), [](double v) { return std::isnan(v); })) return {{Sample::kNoToken}, {1}};
    std::vector<int64_t> order(x.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t l, int64_t r) { return x[size_t(l)] > x[size_t(r)]; });
    const double max = x[size_t(order[0])];
    if (std::isinf(max)) return {{Sample::kNoToken}, {1}};
    if (t <= 0) return {{order[0]}, {1}};

    std::vector<double> p;
    double sum = 0;
    for (double v : x) p.push_back(std::exp((v - max) / std::max(t, double(1e-5f)))), sum += p.back();
    for (double& v : p) v /= sum;
    std::vector<int64_t> kept = order;
    if (top_k > 0 && top_k < vocab) kept.resize(size_t(top_k));
    if (top_p < 1) KeepNucleus(p, top_p, kept);
    const double floor = std::min(1.0, double(a.min_p.Data<float>()[i])) * p[size_t(order[0])];
    std::erase_if(kept, [&](int64_t v) { return p[size_t(v)] < floor; });
    const bool ranked = (top_k > 0 && top_k < vocab) || top_p < 1;
    if (!ranked) std::sort(kept.begin(), kept.end());

    Distribution d{kept, {}};
    double mass = 0, cumulative = 0;
    for (int64_t v : kept) mass += p[size_t(v)];
    for (int64_t v : kept) d.end.push_back((cumulative += p[size_t(v)]) / mass);
    return d;
  }
  // The shortest prefix of `kept` that holds top_p of its mass.
  static void KeepNucleus(const std::vector<double>& p, double top_p, std::vector<int64_t>& kept) {
    double mass = 0, cumulative = 0;
    for (int64_t v : kept) mass += p[size_t(v)];
    size_t count = 0;
    do {
      cumulative += p[size_t(kept[count++])];
    } while (count < kept.size() && cumulative < top_p * mass);
    kept.resize(count);
  }
};

}  // namespace vexil
