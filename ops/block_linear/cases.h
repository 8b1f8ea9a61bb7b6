#pragma once

#include "ops/block_linear/block_linear.h"
#include "ops/linear/cases.h"

namespace vexil {

template <>
struct Conformance<BlockLinear> {
  struct Case {
    int64_t n, groups, k, out;
    DType x, w, y;
    int64_t padding = 0;  // of the rows of x and y
    bool slices = false;  // E4M3 weights after the first have blocks {1, 128}, as slices that begin inside a tile
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) {  // wo_a
      cases.push_back({n, 8, 4096, 1024, DType::kBF16, DType::kE4M3, DType::kBF16});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    const DType f32 = DType::kF32, bf16 = DType::kBF16;
    std::vector<Case> cases;
    for (DType w : linear_cases::kWeights) {
      cases.push_back({3, 2, linear_cases::WidthFor(w, 130), 5, bf16, w, bf16, 3});
      cases.push_back({2, 3, 64, 7, f32, w, f32});
    }
    cases.push_back({3, 3, 192, 40, bf16, DType::kE4M3, bf16, 0, true});
    if (tier == Tier::kSmoke) return cases;
    cases.push_back({0, 2, 64, 5, bf16, bf16, bf16});
    cases.push_back({1, 1, 30, 3, f32, f32, f32});
    for (DType w : {DType::kE4M3, bf16}) {
      cases.push_back({1, 8, 256, 40, bf16, w, bf16});
      cases.push_back({19, 3, 512, 130, bf16, w, bf16, 8});
      cases.push_back({70, 3, 192, 72, bf16, w, bf16, 8});  // many rows
      cases.push_back({800, 2, 64, 72, bf16, w, bf16, 8});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",groups=" + std::to_string(c.groups) + ",k=" + std::to_string(c.k) +
           ",N=" + std::to_string(c.out) + ",x=" + NameOf(c.x) + ",w=" + NameOf(c.w) + ",y=" + NameOf(c.y) +
           (c.padding ? ",strided" : "") + (c.slices ? ",slices" : "");
  }
  static BlockLinear::Args Build(const Case& c, TestArena& m) {
    const std::span<QuantView> views = m.Views<QuantView>(size_t(c.groups));
    for (QuantView& w : views) {
      const bool slice = c.slices && &w != &views[0];
      w = slice ? linear_cases::Slice(m, c.out, c.k) : linear_cases::Weight(m, c.w, c.out, c.k);
    }
    return {.x = linear_cases::Input(m, c.x, c.n, c.groups * c.k, c.padding, 1).data,
            .w = views,
            .y = m.Padded(c.y, {c.n, c.groups * c.out}, c.padding)};
  }
  static std::vector<Expected> Reference(const BlockLinear::Args& a) {
    const std::vector<double> x = ToF64(a.x);
    std::vector<std::vector<double>> w;
    for (const QuantView& g : a.w) w.push_back(linear_cases::WeightValues(g, a.y.dtype()));
    const int64_t k = a.w[0].Columns(), out = a.w[0].data.dim(0), groups = int64_t(a.w.size());
    Expected y{"y", a.y, {}, {}};
    for (int64_t i = 0; i < a.y.dim(0); ++i) {
      for (int64_t j = 0; j < groups * out; ++j) {
        const int64_t g = j / out;
        linear_cases::AddProduct(y, a.x.dtype(), &x[size_t((i * groups + g) * k)], &w[size_t(g)][size_t(j % out * k)],
                                 k);
      }
    }
    return {y};
  }
  static OpCost Cost(const BlockLinear::Args& a) {
    double weights = 0;
    for (const QuantView& w : a.w) weights += linear_cases::BytesOf(w);
    return {linear_cases::NameOfProduct(a.x, a.w[0]), a.x.dim(0), weights + TotalBytes({a.x, a.y}),
            2 * Count(a.y) * double(a.w[0].Columns()), linear_cases::UnitOf(a.x, a.w[0])};
  }
  static std::vector<std::string_view> Faults() { return {"first_columns", "reversed_weights"}; }
};

}  // namespace vexil
