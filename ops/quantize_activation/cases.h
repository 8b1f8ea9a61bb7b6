#pragma once

#include "ops/quantize_activation/quantize_activation.h"
#include "ops/quantize_activation/reference.h"

namespace vexil {

template <>
struct Conformance<QuantizeActivation> {
  struct Case {
    int64_t n, width, block;
    DType dtype;
    BlockValues values;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 4096, 128, DType::kBF16, BlockValues::kNormal, 0});
    cases.push_back({1, 8192, 128, DType::kBF16, BlockValues::kNormal, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({3, 300, 128, t, BlockValues::kNormal, 0});
      cases.push_back({60, 40, 16, t, BlockValues::kEdges, 0});
      cases.push_back({6, 33, 32, t, BlockValues::kTiny, 5});
      cases.push_back({4, 20, 8, t, BlockValues::kNonFinite, 0});
      cases.push_back({1, 1, 128, t, BlockValues::kNormal, 0});
      cases.push_back({0, 128, 128, t, BlockValues::kNormal, 0});
      cases.push_back({60, 48, 16, t, BlockValues::kEdges, 3});  // whole vectors
      cases.push_back({6, 80, 32, t, BlockValues::kTiny, 0});
      cases.push_back({4, 32, 16, t, BlockValues::kNonFinite, 0});
      if (tier == Tier::kFull) cases.push_back({5, 4096, 128, t, BlockValues::kNormal, 0});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",width=" + std::to_string(c.width) + ",block=" + std::to_string(c.block) +
           ",dtype=" + NameOf(c.dtype) + ",values=" + NameOf(c.values) + (c.padding ? ",strided" : "");
  }
  static QuantizeActivation::Args Build(const Case& c, TestArena& m) {
    const MutTensorView x = FillBlocks(m, c.dtype, {c.n, c.width}, c.padding, c.values, E4M3::kMax);
    return {.x = x,
            .codes = m.Poison(DType::kE4M3, {c.n, c.width}),
            .scale = m.Poison(DType::kE8M0, {c.n, (c.width + c.block - 1) / c.block}),
            .block = c.block};
  }
  static std::vector<Expected> Reference(const QuantizeActivation::Args& a) {
    const std::vector<double> x = ToF64(a.x);
    const TargetFormat format = E4M3Format();
    Expected codes{"codes", a.codes, {}, {}}, scale{"scale", a.scale, {}, {}};
    for (int64_t r = 0; r < a.x.dim(0); ++r) {
      for (int64_t begin = 0; begin < a.x.dim(1); begin += a.block) {
        const RoundedBlock b =
            RoundBlock(x.data() + r * a.x.dim(1) + begin, std::min(a.block, a.x.dim(1) - begin), format);
        scale.value.push_back(b.scale);
        codes.value.insert(codes.value.end(), b.codes.begin(), b.codes.end());
      }
    }
    codes.tolerance.assign(codes.value.size(), 0);
    scale.tolerance.assign(scale.value.size(), 0);
    return {codes, scale};
  }
  static OpCost Cost(const QuantizeActivation::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), TotalBytes({a.x, a.codes, a.scale}), 3.0 * Count(a.x)};
  }
  static std::vector<std::string_view> Faults() { return {"exponent_rounded_down", "no_floor", "short_block_dropped"}; }
};

}  // namespace vexil
