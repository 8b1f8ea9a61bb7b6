#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/expert_gate/expert_gate.h"
#include "ops/expert_gate/parts.h"

namespace vexil {

template <>
struct Conformance<ExpertGate> {
  struct Case {
    expert_cases::Routing routing;
    int64_t k, out;
    DType x, w, y;
    float limit = 0.75f;  // of the routed experts
    float shared_limit = 0;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : {1, 8, 32, 128, 512}) {
      cases.push_back({expert_cases::TopSix(n), 4096, 2048, DType::kE4M3, DType::kE2M1x2, DType::kBF16, 10});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    const DType f32 = DType::kF32, bf16 = DType::kBF16, e4m3 = DType::kE4M3, e2m1 = DType::kE2M1x2, i8 = DType::kI8;
    std::vector<Case> cases = {
        {{{2, 0, 3, 1}, 3, e4m3}, 130, 35, e4m3, e2m1, bf16},
        {{{0, 1, 4}, 5, f32}, 66, 5, f32, f32, f32, 0, 0.5f},
        {{{2, 0, 1}, 3, {}}, 128, 16, i8, i8, bf16},
        {{{}, 3, e4m3}, 130, 35, e4m3, e4m3, bf16, 0, 1},
    };
    if (tier == Tier::kSmoke) return cases;
    for (DType w : linear_cases::kWeights) {
      cases.push_back({{{1, 0, 2}, 5, w}, 160, 7, bf16, w, bf16});
      cases.push_back({{{0, 3, 1}, 4, w}, 96, 18, f32, w, f32});
    }
    cases.push_back({{{0, 0}, 4, bf16}, 64, 5, f32, f32, f32});
    cases.push_back({{{}, 0, bf16}, 64, 5, bf16, bf16, bf16});
    cases.push_back({{{1, 1}, 1, e4m3}, 512, 64, e4m3, e2m1, bf16});
    if (tier == Tier::kFull) {
      expert_cases::Routing one{std::vector<int32_t>(256, 0), 1, e4m3};  // a token's six experts of 256
      for (size_t e : {3, 4, 77, 128, 254, 255}) one.pairs[e] = 1;
      cases.push_back({one, 512, 128, e4m3, e2m1, bf16});
      cases.push_back({{{9, 0, 3, 17}, 19, e4m3}, 1024, 136, e4m3, e2m1, bf16, 0.5f, 0.5f});
      cases.push_back({{{5, 2}, 6, e4m3}, 512, 40, e4m3, e4m3, bf16});
      cases.push_back({{{200, 0, 170, 300}, 300, {}}, 256, 256, e4m3, e2m1, bf16});
      cases.push_back({{{2, 3}, 4, bf16}, 512, 48, e4m3, e2m1, bf16});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return expert_cases::Describe(c.routing) + ",k=" + std::to_string(c.k) + ",F=" + std::to_string(c.out) +
           ",x=" + NameOf(c.x) + ",w=" + NameOf(c.w) + ",y=" + NameOf(c.y) + (c.limit > 0 ? "" : ",no_limit") +
           (c.shared_limit > 0 ? ",shared_limit" : "");
  }
  static ExpertGate::Args Build(const Case& c, TestArena& m) {
    const expert_cases::Routing& r = c.routing;
    constexpr int64_t kTopK = 3;  // the list of weights is longer than the pairs that use it
    const QuantView x = expert_cases::Input(m, c.x, r.tokens, c.k);
    ExpertGate::Args a;
    if (!r.pairs.empty()) {
      const int64_t pairs = r.Pairs();
      a.routed = {.x = x,
                  .rows = m.Integers(DType::kI32, {pairs}, 0, r.tokens - 1),
                  .offsets = expert_cases::Offsets(m, r),
                  .w1 = expert_cases::Weights(m, r, c.w, c.out, c.k),
                  .w3 = expert_cases::Weights(m, r, c.w, c.out, c.k),
                  .row_weight = m.Uniform(DType::kF32, {pairs, kTopK}, 0.1, 1.5),
                  .row_index = m.Integers(DType::kI32, {pairs}, 0, std::max<int64_t>(pairs * kTopK - 1, 0)),
                  .limit = c.limit,
                  .y = m.Poison(c.y, {pairs, c.out})};
    }
    if (r.shared) {
      a.shared = {.x = x,
                  .w1 = expert_cases::SharedWeight(m, r, c.out, c.k),
                  .w3 = expert_cases::SharedWeight(m, r, c.out, c.k),
                  .limit = c.shared_limit,
                  .y = m.Poison(c.y, {r.tokens, c.out})};
    }
    return a;
  }
  static std::vector<Expected> Reference(const ExpertGate::Args& a) {
    std::vector<Expected> all;
    if (!a.routed.empty()) all.push_back(PartReference("routed", a.routed));
    if (!a.shared.empty()) all.push_back(PartReference("shared", a.shared));
    return all;
  }
  static OpCost Cost(const ExpertGate::Args& a) {
    const ExpertGate::Part& p = a.routed.empty() ? a.shared : a.routed;
    OpCost cost{linear_cases::NameOfProduct(p.x, p.w1[0]), p.x.data.dim(0), linear_cases::BytesOf(p.x), 0,
                linear_cases::UnitOf(p.x, p.w1[0])};
    for (const ExpertGate::Part* part : {&a.routed, &a.shared}) {
      if (part->empty()) continue;
      cost.bytes += expert_cases::UsedBytes(part->offsets, part->w1) +
                    expert_cases::UsedBytes(part->offsets, part->w3) + TotalBytes({part->y});
      cost.flops += 4 * Count(part->y) * double(part->x.Columns());
    }
    return cost;
  }
  static std::vector<std::string_view> Faults() { return {"gate_twice", "swapped_products", "no_shared_expert"}; }

 private:
  static double Silu(double v) { return v / (1 + std::exp(-v)); }
  // What an error of at most da and db in the products changes. The clamps are nowhere steeper than 1.
  static double Propagated(double gate, double up, double da, double db) {
    constexpr double kLeast = -1.2784645427610738;  // where silu is least; it is monotonic on both sides
    double silu = std::max(std::abs(Silu(gate + da) - Silu(gate)), std::abs(Silu(gate - da) - Silu(gate)));
    if (std::abs(gate - kLeast) < da) silu = std::max(silu, Silu(gate) - Silu(kLeast));
    return silu * (std::abs(up) + db) + std::abs(Silu(gate)) * db;
  }
  static Expected PartReference(std::string_view name, const ExpertGate::Part& p) {
    const double limit = p.limit > 0 ? double(p.limit) : std::numeric_limits<double>::infinity();
    expert_cases::Products gates(p.x, p.y.dtype()), ups(p.x, p.y.dtype());
    Expected y{name, p.y, {}, {}, {}};
    for (int64_t i = 0; i < p.y.dim(0); ++i) {
      const size_t e = expert_cases::ExpertOf(p.offsets, i);
      const int64_t row = p.rows.empty() ? i : p.rows.Data<int32_t>()[i];
      const Expected a = gates.Row(row, p.w1[e]), b = ups.Row(row, p.w3[e]);
      const double weight =
          p.row_weight.empty() ? 1.0 : double(p.row_weight.Data<float>()[p.row_index.Data<int32_t>()[i]]);
      for (size_t j = 0; j < a.value.size(); ++j) {
        const double gate = std::min(a.value[j], limit), up = std::clamp(b.value[j], -limit, limit);
        const double v = Silu(gate) * up * weight;
        y.value.push_back(v);
        // Swiglu's own error: the exponential (2), the sum, the quotient, two products, the result, and an exponential
        // that overflows.
        const double own = std::abs(v) * (Epsilon(p.y.dtype()) + 6 * Epsilon(DType::kF32)) + 1e-40 +
                           std::abs(gate * up * weight) * 0x1p-126;
        y.tolerance.push_back(own + 1.01 * weight * Propagated(gate, up, a.tolerance[j], b.tolerance[j]));
        y.coarse_tolerance.push_back(own + 1.01 * weight *
                                               Propagated(gate, up, a.coarse_tolerance[j], b.coarse_tolerance[j]));
      }
    }
    return y;
  }
};

}  // namespace vexil
