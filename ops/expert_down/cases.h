#pragma once

#include "ops/expert_down/expert_down.h"
#include "ops/expert_gate/parts.h"

namespace vexil {

template <>
struct Conformance<ExpertDown> {
  struct Case {
    expert_cases::Routing routing;
    int64_t k, out;
    DType x;
    bool round;
    DType w, y;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : {1, 8, 32, 128, 512}) {
      cases.push_back({expert_cases::TopSix(n), 2048, 4096, DType::kBF16, true, DType::kE2M1x2, DType::kBF16});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    const DType f32 = DType::kF32, bf16 = DType::kBF16, e4m3 = DType::kE4M3, e2m1 = DType::kE2M1x2, i8 = DType::kI8;
    std::vector<Case> cases = {
        {{{2, 0, 3, 1}, 3, e4m3}, 300, 35, bf16, true, e2m1, bf16},
        {{{0, 1, 4}, 5, f32}, 66, 5, f32, false, f32, f32},
        {{{2, 0, 1}, 3, {}}, 128, 16, i8, false, i8, bf16},
        {{{}, 3, e4m3}, 130, 35, f32, true, e4m3, f32},
    };
    if (tier == Tier::kSmoke) return cases;
    for (DType w : linear_cases::kWeights) {
      cases.push_back({{{1, 0, 2}, 2, w}, 160, 7, bf16, false, w, bf16});
      cases.push_back({{{0, 3, 1}, 4, w}, 96, 18, bf16, true, w, f32});
    }
    cases.push_back({{{0, 0}, 4, bf16}, 64, 5, f32, false, f32, f32});
    cases.push_back({{{}, 0, bf16}, 64, 5, bf16, true, bf16, bf16});
    cases.push_back({{{1, 1}, 1, e4m3}, 512, 64, bf16, true, e2m1, bf16});
    cases.push_back({{{1, 1}, 1, e4m3}, 512, 64, e4m3, false, e2m1, bf16});
    if (tier == Tier::kFull) {
      expert_cases::Routing one{std::vector<int32_t>(256, 0), 1, e4m3};  // a token's six experts of 256
      for (size_t e : {3, 4, 77, 128, 254, 255}) one.pairs[e] = 1;
      cases.push_back({one, 512, 132, bf16, true, e2m1, bf16});
      cases.push_back({{{9, 0, 3, 17}, 19, e4m3}, 1024, 136, bf16, true, e2m1, bf16});
      cases.push_back({{{5, 2}, 6, e4m3}, 512, 40, bf16, true, e4m3, f32});
      cases.push_back({{{200, 0, 170, 300}, 100, e4m3}, 256, 256, bf16, true, e2m1, bf16});
      cases.push_back({{{2, 3}, 4, bf16}, 512, 48, bf16, true, e2m1, bf16});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return expert_cases::Describe(c.routing) + ",k=" + std::to_string(c.k) + ",D=" + std::to_string(c.out) +
           ",x=" + NameOf(c.x) + (c.round ? "_rounded" : "") + ",w=" + NameOf(c.w) + ",y=" + NameOf(c.y);
  }
  static ExpertDown::Args Build(const Case& c, TestArena& m) {
    const expert_cases::Routing& r = c.routing;
    ExpertDown::Args a;
    if (!r.pairs.empty()) {
      a.routed = {.x = expert_cases::Input(m, c.x, r.Pairs(), c.k),
                  .round = c.round,
                  .offsets = expert_cases::Offsets(m, r),
                  .w2 = expert_cases::Weights(m, r, c.w, c.out, c.k),
                  .y = m.Poison(c.y, {r.Pairs(), c.out})};
    }
    if (r.shared) {
      a.shared = {.x = expert_cases::Input(m, c.x, r.tokens, c.k),
                  .round = c.round,
                  .w2 = expert_cases::SharedWeight(m, r, c.out, c.k),
                  .y = m.Poison(c.y, {r.tokens, c.out})};
    }
    return a;
  }
  static std::vector<Expected> Reference(const ExpertDown::Args& a) {
    std::vector<Expected> all;
    if (!a.routed.empty()) all.push_back(PartReference("routed", a.routed));
    if (!a.shared.empty()) all.push_back(PartReference("shared", a.shared));
    return all;
  }
  static OpCost Cost(const ExpertDown::Args& a) {
    const ExpertDown::Part& p = a.routed.empty() ? a.shared : a.routed;
    OpCost cost{linear_cases::NameOfProduct(p.x, p.w2[0]), p.x.data.dim(0), 0, 0, linear_cases::UnitOf(p.x, p.w2[0])};
    for (const ExpertDown::Part* part : {&a.routed, &a.shared}) {
      if (part->empty()) continue;
      cost.bytes +=
          linear_cases::BytesOf(part->x) + expert_cases::UsedBytes(part->offsets, part->w2) + TotalBytes({part->y});
      cost.flops += 2 * Count(part->y) * double(part->x.Columns());
    }
    return cost;
  }
  static std::vector<std::string_view> Faults() { return {"not_rounded", "no_shared_expert"}; }

 private:
  static Expected PartReference(std::string_view name, const ExpertDown::Part& p) {
    expert_cases::Products products(p.x, p.y.dtype());
    if (p.round) products.RoundInput();
    Expected y{name, p.y, {}, {}, {}};
    for (int64_t i = 0; i < p.y.dim(0); ++i) {
      const Expected row = products.Row(i, p.w2[expert_cases::ExpertOf(p.offsets, i)]);
      y.value.insert(y.value.end(), row.value.begin(), row.value.end());
      y.tolerance.insert(y.tolerance.end(), row.tolerance.begin(), row.tolerance.end());
      y.coarse_tolerance.insert(y.coarse_tolerance.end(), row.coarse_tolerance.begin(), row.coarse_tolerance.end());
    }
    return y;
  }
};

}  // namespace vexil
