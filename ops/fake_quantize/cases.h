#pragma once

#include "ops/fake_quantize/fake_quantize.h"
#include "ops/quantize_activation/reference.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<FakeQuantize> {
  using Format = FakeQuantize::Format;
  struct Case {
    int64_t rows, width;
    Format format;
    int64_t block;
    DType dtype;
    BlockValues values;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) {
      cases.push_back({n, 448, Format::kE4M3, 64, DType::kBF16, BlockValues::kNormal, 64});
      cases.push_back({n * 64, 128, Format::kE2M1, 32, DType::kBF16, BlockValues::kNormal, 0});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      for (Format f : {Format::kE4M3, Format::kE2M1}) {
        cases.push_back({3, 100, f, 32, t, BlockValues::kNormal, 0});
        cases.push_back({60, 40, f, 16, t, BlockValues::kEdges, 0});
        cases.push_back({6, 33, f, 32, t, BlockValues::kTiny, 5});
        cases.push_back({4, 20, f, 8, t, BlockValues::kNonFinite, 0});
        cases.push_back({60, 48, f, 16, t, BlockValues::kEdges, 3});  // whole vectors
        cases.push_back({6, 80, f, 32, t, BlockValues::kTiny, 0});
        cases.push_back({4, 32, f, 16, t, BlockValues::kNonFinite, 0});
        cases.push_back({1, 1, f, 32, t, BlockValues::kNormal, 0});
        cases.push_back({0, 64, f, 32, t, BlockValues::kNormal, 0});
      }
      if (tier == Tier::kFull) {
        cases.push_back({7, 448, Format::kE4M3, 64, t, BlockValues::kNormal, 64});  // KV rows: not the rotary part
        cases.push_back({64, 128, Format::kE2M1, 32, t, BlockValues::kNormal, 0});  // indexer heads
      }
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "rows=" + std::to_string(c.rows) + ",width=" + std::to_string(c.width) +
           ",format=" + (c.format == Format::kE4M3 ? "e4m3" : "e2m1") + ",block=" + std::to_string(c.block) +
           ",dtype=" + NameOf(c.dtype) + ",values=" + NameOf(c.values) + (c.padding ? ",strided" : "");
  }
  static FakeQuantize::Args Build(const Case& c, TestArena& m) {
    const double max = c.format == Format::kE4M3 ? E4M3::kMax : E2M1x2::kMax;
    return {
        .x = FillBlocks(m, c.dtype, {c.rows, c.width}, c.padding, c.values, max), .format = c.format, .block = c.block};
  }
  static std::vector<Expected> Reference(const FakeQuantize::Args& a) {
    const std::vector<double> x = ToF64(a.x);
    const TargetFormat format = a.format == Format::kE4M3 ? E4M3Format() : E2M1Format();
    Expected y{"x", a.x, {}, {}};
    for (int64_t r = 0; r < a.x.dim(0); ++r) {
      for (int64_t begin = 0; begin < a.x.dim(1); begin += a.block) {
        const RoundedBlock b =
            RoundBlock(x.data() + r * a.x.dim(1) + begin, std::min(a.block, a.x.dim(1) - begin), format);
        for (double code : b.codes) y.value.push_back(code * b.scale);
      }
    }
    y.tolerance.assign(y.value.size(), 0);
    return {y, UntouchedPadding(a.x)};
  }
  static OpCost Cost(const FakeQuantize::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), 2 * TotalBytes({a.x}), 4.0 * Count(a.x)};
  }
  static std::vector<std::string_view> Faults() {
    return {"exponent_rounded_down", "no_floor", "short_block_dropped", "mantissa_kept", "double_block"};
  }
};

}  // namespace vexil
