#pragma once

#include "ops/linear/cases.h"
#include "ops/multi_linear/multi_linear.h"
#include "ops/quantize_activation/reference.h"

namespace vexil {

template <>
struct Conformance<MultiLinear> {
  struct Part {
    int64_t out;
    DType x, w, y;
    float factor = 1;
    bool row_scales = false;  // an E4M3 weight with blocks {1, 128}
    bool round_x = false;
  };
  struct Case {
    std::string name;
    int64_t n, k;
    std::vector<Part> parts;
    int64_t padding = 0;  // of the rows of x and y
  };

  // The projections of a layer's input by an attention layer with an indexer; the queries from the low-rank query; the
  // router and the shared expert.
  static std::vector<Case> PerfCases() {
    const DType f32 = DType::kF32, bf16 = DType::kBF16, e4m3 = DType::kE4M3;
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) {
      cases.push_back({"attention",
                       n,
                       4096,
                       {{1024, e4m3, e4m3, bf16},
                        {512, e4m3, e4m3, bf16},
                        {1024, bf16, bf16, f32},
                        {1024, bf16, bf16, f32},
                        {256, bf16, bf16, f32},
                        {256, bf16, bf16, f32},
                        {64, bf16, bf16, bf16, 0.011f}}});
      cases.push_back({"queries", n, 1024, {{32768, e4m3, e4m3, bf16}, {8192, e4m3, e4m3, bf16}}});
      cases.push_back({"output", n, 8192, {{4096, bf16, e4m3, bf16, 1, false, true}}});
      cases.push_back({"moe", n, 4096, {{256, bf16, bf16, f32}, {2048, e4m3, e4m3, bf16}, {2048, e4m3, e4m3, bf16}}});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    const DType f32 = DType::kF32, bf16 = DType::kBF16, e4m3 = DType::kE4M3;
    const std::vector<Part> mixed = {{35, bf16, bf16, f32, 0.3f}, {130, e4m3, e4m3, bf16},
                                     {7, bf16, bf16, bf16, 0.3f}, {1, e4m3, e4m3, f32},
                                     {19, bf16, e4m3, bf16},      {40, e4m3, e4m3, bf16, 1, true}};
    const std::vector<Part> rounded = {{37, bf16, e4m3, bf16, 1, false, true},
                                       {6, bf16, bf16, f32},
                                       {21, e4m3, e4m3, bf16},
                                       {18, bf16, e4m3, f32, 0.3f, true, true}};
    std::vector<Case> cases = {
        {"mixed", 1, 128, mixed},
        {"mixed", 3, 384, mixed, 16},
        {"odd_width", 5, 100, mixed, 3},
        {"one", 2, 256, {{20, e4m3, e4m3, bf16}}},
        {"rounded", 3, 256, rounded},
        {"rounded", 2, 130, rounded, 5},
        {"formats", 2, 96, {{9, f32, f32, f32}, {5, bf16, DType::kF16, bf16}, {6, bf16, DType::kI8, bf16, -2}}},
    };
    if (tier == Tier::kSmoke) return cases;
    cases.push_back({"mixed", 0, 128, mixed});
    cases.push_back({"mixed", 9, 1152, mixed});      // two tiles of rows
    cases.push_back({"mixed", 21, 256, mixed, 16});  // more rows than share a pass
    cases.push_back({"mixed", 70, 256, mixed});      // more than the kernels for few rows take
    cases.push_back({"mixed", 16, 4096, mixed});
    cases.push_back({"wide", 1, 1024, {{9000, e4m3, e4m3, bf16}, {5, bf16, bf16, f32}, {2100, bf16, bf16, f32}}});
    cases.push_back({"rounded", 1, 8192, rounded});
    cases.push_back({"rounded", 17, 384, rounded});
    cases.push_back({"eight", 2, 128, {8, Part{11, bf16, bf16, f32}}});
    return cases;
  }
  static std::string Describe(const Case& c) {
    return c.name + ",n=" + std::to_string(c.n) + ",k=" + std::to_string(c.k) + (c.padding ? ",strided" : "");
  }
  static MultiLinear::Args Build(const Case& c, TestArena& m) {
    MultiLinear::Args a;
    std::vector<std::pair<DType, QuantView>> inputs;  // parts with one format share an input
    for (const Part& p : c.parts) {
      auto x = std::find_if(inputs.begin(), inputs.end(), [&](const auto& i) { return i.first == p.x; });
      if (x == inputs.end()) {
        x = inputs.insert(x, {p.x, linear_cases::Input(m, p.x, c.n, c.k, c.padding, 1)});
      }
      a.parts[size_t(a.count++)] = {
          .x = x->second,
          .w = p.row_scales ? linear_cases::Slice(m, p.out, c.k) : linear_cases::Weight(m, p.w, p.out, c.k),
          .y = m.Padded(p.y, {c.n, p.out}, c.padding),
          .factor = p.factor,
          .round_x = p.round_x};
    }
    return a;
  }
  static std::vector<Expected> Reference(const MultiLinear::Args& a) {
    std::vector<Expected> outputs;
    for (const MultiLinear::Part& p : a.list()) {
      Expected y = Product(p);
      for (size_t i = 0; i < y.value.size() && p.factor != 1; ++i) {
        y.value[i] *= double(p.factor);
        // The product is rounded once more.
        const double rounding = Epsilon(p.y.dtype()) * std::abs(y.value[i]) * 1.01;
        for (auto* tolerance : {&y.tolerance, &y.coarse_tolerance}) {
          (*tolerance)[i] = (*tolerance)[i] * std::abs(double(p.factor)) * 1.01 + rounding;
        }
      }
      outputs.push_back(y);
    }
    return outputs;
  }
  static Expected Product(const MultiLinear::Part& p) {
    if (!p.round_x) return Conformance<Linear>::Reference({.x = p.x, .w = p.w, .y = p.y})[0];
    const std::vector<double> w = linear_cases::WeightValues(p.w, p.y.dtype());
    const int64_t k = p.x.Columns();
    std::vector<double> x = ToF64(p.x.data);
    Expected y{"y", p.y, {}, {}};
    for (int64_t i = 0; i < p.y.dim(0); ++i) {
      double* const row = x.data() + i * k;
      for (int64_t begin = 0; begin < k; begin += kE4M3Block) {
        const RoundedBlock b = RoundBlock(row + begin, std::min(kE4M3Block, k - begin), E4M3Format());
        for (size_t j = 0; j < b.codes.size(); ++j) row[begin + int64_t(j)] = b.codes[j] * b.scale;
      }
      for (int64_t j = 0; j < p.y.dim(1); ++j) linear_cases::AddProduct(y, DType::kE4M3, row, &w[size_t(j * k)], k);
    }
    return y;
  }
  static OpCost Cost(const MultiLinear::Args& a) {
    OpCost cost = {"", a.parts[0].y.dim(0), 0, 0, ComputeUnit::kBf16};
    std::vector<const void*> seen;  // inputs
    for (const MultiLinear::Part& p : a.list()) {
      const std::string product = linear_cases::NameOfProduct(p.x, p.w);
      if (cost.dtype.find(product) == std::string::npos) cost.dtype += (cost.dtype.empty() ? "" : "+") + product;
      if (std::find(seen.begin(), seen.end(), p.x.data.raw()) == seen.end()) {
        seen.push_back(p.x.data.raw());
        cost.bytes += linear_cases::BytesOf(p.x);
      }
      cost.bytes += linear_cases::BytesOf(p.w) + TotalBytes({p.y});
      cost.flops += 2 * Count(p.y) * double(p.x.Columns());
      if (linear_cases::UnitOf(p.x, p.w) == ComputeUnit::kF32) cost.unit = ComputeUnit::kF32;
    }
    return cost;
  }
  static std::vector<std::string_view> Faults() { return {"last_part_missing", "factor_of_first", "unrounded_x"}; }
};

}  // namespace vexil
