#pragma once

#include <numeric>
#include <random>

#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/cases.h"

namespace vexil {

template <>
struct Conformance<GroupedLinear> {
  struct Case {
    std::vector<int32_t> pairs;  // of each expert
    int64_t tokens;              // 0: rows is empty, one token per pair
    int64_t k, out;
    DType x, w, y;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    const DType bf16 = DType::kBF16, e4m3 = DType::kE4M3;
    const auto add = [&](int64_t tokens, int64_t k, int64_t out, DType x, DType w, size_t experts = 256) {
      std::vector<int32_t> pairs(experts, 0);
      std::mt19937_64 rng(7);
      for (int64_t i = 0; i < tokens * 6; ++i) ++pairs[rng() % pairs.size()];
      cases.push_back({pairs, tokens, k, out, x, w, bf16});
    };
    for (int64_t n : kPerfTokens) {
      add(n, 4096, 2048, e4m3, DType::kE2M1x2);  // w1, w3
      add(n, 2048, 4096, e4m3, DType::kE2M1x2);  // w2
    }
    add(1, 4096, 2048, bf16, DType::kE2M1x2);
    add(1, 4096, 2048, bf16, bf16);
    add(128, 4096, 2048, bf16, bf16, 16);
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    const DType f32 = DType::kF32, bf16 = DType::kBF16, e4m3 = DType::kE4M3;
    std::vector<Case> cases;
    cases.push_back({{2, 0, 3, 1}, 3, 130, 131, DType::kI8, DType::kI8, bf16});
    cases.push_back({{0, 1, 0, 4, 0}, 0, 66, 5, DType::kI8, DType::kI8, f32});
    for (DType w : linear_cases::kWeights) {
      const auto k = [w](int64_t width) { return linear_cases::WidthFor(w, width); };
      cases.push_back({{2, 0, 3, 1}, 3, k(130), 131, bf16, w, bf16});
      cases.push_back({{0, 1, 0, 4, 0}, 0, k(66), 5, e4m3, w, f32});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({{0, 0}, 4, 64, 5, f32, w, f32});
      cases.push_back({{1}, 1, k(2), 1, f32, w, f32});
      cases.push_back({{33, 0, 7, 130}, 40, 96, 34, f32, w, f32});
      cases.push_back({{33, 0, 7, 18, 4}, 40, 160, 66, e4m3, w, bf16});
    }
    if (tier == Tier::kFull) {
      std::vector<int32_t> sparse(256, 0);  // a token's six experts of 256
      for (size_t e : {3, 4, 77, 128, 254, 255}) sparse[e] = 1;
      cases.push_back({sparse, 1, 512, 8, e4m3, DType::kE2M1x2, bf16});
      cases.push_back({{1, 2}, 2, 4096, 260, e4m3, DType::kE2M1x2, bf16});
      cases.push_back({{200, 0, 170, 300}, 100, 256, 256, e4m3, DType::kE2M1x2, bf16});
      cases.push_back({{9, 0, 3}, 9, 512, 48, e4m3, DType::kE4M3, bf16});
      cases.push_back({{1, 2}, 0, 2048, 260, e4m3, DType::kE2M1x2, bf16});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    std::string pairs;
    for (int32_t p : c.pairs) pairs += (pairs.empty() ? "" : "_") + std::to_string(p);
    if (c.pairs.size() > 8) pairs = std::to_string(c.pairs.size()) + "_experts";
    return "pairs=" + pairs + ",tokens=" + std::to_string(c.tokens) + ",k=" + std::to_string(c.k) +
           ",N=" + std::to_string(c.out) + ",x=" + NameOf(c.x) + ",w=" + NameOf(c.w) + ",y=" + NameOf(c.y);
  }
  static GroupedLinear::Args Build(const Case& c, TestArena& m) {
    std::vector<int32_t> offsets = {0};
    for (int32_t p : c.pairs) offsets.push_back(offsets.back() + p);
    const int64_t pairs = offsets.back(), tokens = c.tokens ? c.tokens : pairs;
    const std::span<QuantView> views = m.Views<QuantView>(c.pairs.size());
    QuantView unused;  // experts without pairs share one weight, which nobody may read
    for (size_t e = 0; e < c.pairs.size(); ++e) {
      if (c.pairs[e] == 0 && !unused.data.empty()) {
        views[e] = unused;
        continue;
      }
      views[e] = linear_cases::Weight(m, c.w, c.out, c.k);
      if (c.pairs[e] == 0) unused = views[e];
    }
    return {.x = linear_cases::Input(m, c.x, tokens, c.k, 0, 1),
            .rows = c.tokens ? TensorView(m.Integers(DType::kI32, {pairs}, 0, tokens - 1)) : TensorView(),
            .offsets = m.Values<int32_t>({int64_t(offsets.size())}, offsets),
            .w = views,
            .y = m.Poison(c.y, {pairs, c.out})};
  }
  static std::vector<Expected> Reference(const GroupedLinear::Args& a) {
    const std::vector<double> x = Dequantize(a.x);
    const int64_t k = a.x.Columns(), out = a.y.dim(1);
    const int32_t* offsets = a.offsets.Data<int32_t>();
    Expected y{"y", a.y, {}, {}};
    for (size_t e = 0; e < a.w.size(); ++e) {
      if (offsets[e] == offsets[e + 1]) continue;
      const std::vector<double> w = linear_cases::WeightValues(a.w[e], a.y.dtype());
      for (int64_t p = offsets[e]; p < offsets[e + 1]; ++p) {
        const int64_t row = a.rows.empty() ? p : a.rows.Data<int32_t>()[p];
        for (int64_t j = 0; j < out; ++j) {
          a.x.data.dtype() == DType::kI8
              ? linear_cases::AddInt8Product(y, a.x, row, a.w[e], j)
              : linear_cases::AddProduct(y, a.x.data.dtype(), &x[size_t(row * k)], &w[size_t(j * k)], k);
        }
      }
    }
    return {y};
  }
  static OpCost Cost(const GroupedLinear::Args& a) {
    double weights = 0;
    for (size_t e = 0; e < a.w.size(); ++e) {
      if (a.offsets.Data<int32_t>()[e] != a.offsets.Data<int32_t>()[e + 1]) weights += linear_cases::BytesOf(a.w[e]);
    }
    return {linear_cases::NameOfProduct(a.x, a.w[0]), a.x.data.dim(0),
            linear_cases::BytesOf(a.x) + weights + TotalBytes({a.y}), 2 * Count(a.y) * double(a.x.Columns()),
            linear_cases::UnitOf(a.x, a.w[0])};
  }
  static std::vector<std::string_view> Faults() {
    return {"ignored_rows", "first_expert", "swapped_nibbles", "interleaved_mxfp4", "scale_of_first_row"};
  }
};

}  // namespace vexil
