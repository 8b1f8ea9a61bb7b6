#pragma once

#include <deque>
#include <numeric>

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

  static std::vector<Case> Cases(Tier tier) {
    const DType f32 = DType::kF32, bf16 = DType::kBF16, e4m3 = DType::kE4M3;
    std::vector<Case> cases;
    for (DType w : linear_cases::kWeights) {
      cases.push_back({{2, 0, 3, 1}, 3, 130, 131, bf16, w, bf16});
      cases.push_back({{0, 1, 0, 4, 0}, 0, 66, 5, e4m3, w, f32});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({{0, 0}, 4, 64, 5, f32, w, f32});
      cases.push_back({{1}, 1, 2, 1, f32, w, f32});
      cases.push_back({{33, 0, 7, 130}, 40, 96, 34, f32, w, f32});
    }
    if (tier == Tier::kFull) {
      std::vector<int32_t> sparse(256, 0);  // a token's six experts of 256
      for (size_t e : {3, 4, 77, 128, 254, 255}) sparse[e] = 1;
      cases.push_back({sparse, 1, 512, 8, e4m3, DType::kE2M1x2, bf16});
      cases.push_back({{1, 2}, 2, 4096, 260, e4m3, DType::kE2M1x2, bf16});
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
    // The arena has no place for views, so they live in the bytes of a tensor.
    static_assert(std::is_trivially_destructible_v<QuantView> && sizeof(QuantView) % sizeof(int64_t) == 0);
    const int64_t words = int64_t(sizeof(QuantView) / sizeof(int64_t) * c.pairs.size());
    QuantView* views = static_cast<QuantView*>(m.Poison(DType::kI64, {words}).mut_raw());
    for (size_t e = 0; e < c.pairs.size(); ++e) new (views + e) QuantView(linear_cases::Weight(m, c.w, c.out, c.k));
    return {.x = linear_cases::Input(m, c.x, tokens, c.k, 0, 1),
            .rows = c.tokens ? TensorView(m.Integers(DType::kI32, {pairs}, 0, tokens - 1)) : TensorView(),
            .offsets = m.Values<int32_t>({int64_t(offsets.size())}, offsets),
            .w = {views, c.pairs.size()},
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
        for (int64_t j = 0; j < out; ++j) linear_cases::AddProduct(y, &x[size_t(row * k)], &w[size_t(j * k)], k);
      }
    }
    return {y};
  }
  static std::vector<std::string_view> Faults() { return {"ignored_rows", "first_expert", "swapped_nibbles"}; }
};

}  // namespace vexil
