#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/elements.h"
#include "ops/finish_rows/finish_rows.h"
#include "ops/finish_rows/reference.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<FinishRows> {
  using Norm = FinishRows::Norm;
  using Format = FakeQuantize::Format;
  // What a set asks for.
  struct Steps {
    Norm norm = Norm::kNone;
    int64_t pairs = 0;
    bool inverse = false, hadamard = false;
    Format format = Format::kE4M3;
    int64_t block = 64, rounded = 0;
    bool stored = false;
  };
  struct Shape {
    int64_t n, heads, d;
    Steps steps;
    int64_t padding = 0;
    bool not_finite = false;  // some values
  };
  struct Case {
    std::vector<Shape> sets;
    DType dtype, weight;
  };

  // V4-Flash's queries, cache rows, index queries and index keys, and the rotation of what the attention returns.
  static Shape Queries(int64_t n) { return {n, 64, 512, {.norm = Norm::kHead, .pairs = 32}}; }
  static Shape CacheRows(int64_t n) {
    return {n, 1, 512, {.norm = Norm::kWeighted, .pairs = 32, .rounded = 448, .stored = true}};
  }
  static Shape IndexQueries(int64_t n) {
    return {n, 64, 128, {.pairs = 32, .hadamard = true, .format = Format::kE2M1, .block = 32, .rounded = 128}};
  }
  static Shape IndexKeys(int64_t n) {
    Shape s = IndexQueries(n);
    s.heads = 1, s.steps.norm = Norm::kWeighted, s.steps.stored = true;
    return s;
  }
  static Shape Outputs(int64_t n) { return {n, 64, 512, {.pairs = 32, .inverse = true}}; }

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : {1, 16, 128, 8192}) {
      for (const Shape& s : {Queries(n), CacheRows(n), IndexQueries(n), IndexKeys(n), Outputs(n)}) {
        cases.push_back({{s}, DType::kBF16, DType::kBF16});
      }
      cases.push_back({{Queries(n), CacheRows(n), IndexQueries(n)}, DType::kBF16, DType::kBF16});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    const Steps all_e4m3 = {.norm = Norm::kWeighted, .pairs = 3, .block = 8, .rounded = 20, .stored = true};
    const Steps all_e2m1 = {.norm = Norm::kWeighted,
                            .pairs = 4,
                            .hadamard = true,
                            .format = Format::kE2M1,
                            .block = 8,
                            .rounded = 32,
                            .stored = true};
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      const DType w = t == DType::kF32 ? DType::kBF16 : DType::kF32;
      cases.push_back({{{7, 1, 27, all_e4m3}}, t, w});
      cases.push_back({{{7, 1, 32, all_e2m1}}, t, t});
      cases.push_back({{{3, 5, 19, {.norm = Norm::kHead, .pairs = 4}}, {9, 1, 27, all_e4m3, 5}}, t, w});
      cases.push_back({{Queries(2), CacheRows(5), IndexQueries(3)}, t, w});
      if (tier == Tier::kSmoke) continue;
      AddShapes(t, w, cases);
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    std::string text = std::string("dtype=") + NameOf(c.dtype) + ",weight=" + NameOf(c.weight);
    for (const Shape& s : c.sets) text += "," + Describe(s);
    return text;
  }
  static FinishRows::Args Build(const Case& c, TestArena& m) {
    FinishRows::Args a;
    for (size_t i = 0; i < c.sets.size(); ++i) a.sets[i] = Build(c.sets[i], c, m);
    return a;
  }
  static std::vector<Expected> Reference(const FinishRows::Args& a) {
    std::vector<Expected> expected;
    for (const FinishRows::Set& s : a.sets) {
      if (s.x.empty()) continue;
      const FinishedRows rows(s);
      expected.push_back(rows.X());
      if (s.x.dim(0) > 0) expected.push_back(UntouchedPadding(Matrix(s.x)));
      if (!s.rows.empty()) expected.push_back(rows.Pool());
    }
    return expected;
  }
  static OpCost Cost(const FinishRows::Args& a) {
    OpCost cost{NameOf(a.sets[0].x.dtype()), a.sets[0].x.dim(0)};
    for (const FinishRows::Set& s : a.sets) {
      if (s.x.empty()) continue;
      cost.bytes += (s.rows.empty() ? 2 : 3) * TotalBytes({s.x}) + TotalBytes({s.weight});
      const double per_element =
          (s.norm == Norm::kNone ? 0 : 4) + (s.hadamard ? std::log2(double(s.x.dim(2))) : 0) + (s.rounded > 0 ? 4 : 0);
      const double rotated = s.freqs.empty() ? 0 : 2 * Count(s.freqs) * double(s.x.dim(0) * s.x.dim(1));
      cost.flops += per_element * Count(s.x) + 3 * rotated;
    }
    return cost;
  }
  static std::vector<std::string_view> Faults() {
    return {"never_inverse", "rotary_rounded", "stored_too_early", "norm_last", "hadamard_last"};
  }

 private:
  // One step at a time, all of them, and sizes at the borders of the fast kernel.
  static void AddShapes(DType t, DType w, std::vector<Case>& cases) {
    const auto add = [&](const Shape& s) { cases.push_back({{s}, t, w}); };
    for (int64_t d : {128, 512}) {
      add({3, 2, d, {}});
      add({3, 2, d, {.norm = Norm::kHead}});
      add({3, 9, d, {.norm = Norm::kWeighted}});
      add({3, 9, d, {.pairs = 32}});
      add({5, 3, d, {.pairs = d / 2, .inverse = true}, 16});  // the whole row
      add({5, 3, d, {.pairs = 1}, 8});
      add({4, 2, d, {.hadamard = true}});
      add({4, 1, d, {.rounded = d - 64}, 8, true});
      add({4, 1, d, {.block = 32, .rounded = 40, .stored = true}});  // a short last block
      add({9, 1, d, {.format = Format::kE2M1, .block = 32, .rounded = d, .stored = true}, 0, true});
      add({9, 1, d, {.stored = true}, 8});
      add({1, 1, d, {.block = d, .rounded = d}});
      add({17, 1, d, {.norm = Norm::kHead, .pairs = 16, .inverse = true, .hadamard = true, .rounded = d}});
      add({0, 3, d, {.norm = Norm::kHead, .pairs = 4}});
      add({2, 3, d, {.norm = Norm::kHead, .pairs = 4}, 3});  // rows that are not aligned
    }
    add({1, 1, 1, {.norm = Norm::kWeighted, .hadamard = true, .block = 1, .rounded = 1, .stored = true}});
    add({0, 1, 8, {.norm = Norm::kWeighted, .stored = true}});
    add({5, 7, 48, {.norm = Norm::kHead, .pairs = 8, .block = 16, .rounded = 33}, 5});
    add(Outputs(3));
    cases.push_back({{CacheRows(3), IndexKeys(11), Queries(1)}, t, t});
    cases.push_back({{CacheRows(3), IndexKeys(11)}, t, w});
    cases.push_back({{IndexKeys(2), {0, 64, 512, {.norm = Norm::kHead}}, CacheRows(1)}, t, w});
  }
  static std::string Describe(const Shape& s) {
    const Steps& p = s.steps;
    std::string text = std::to_string(s.n) + "x" + std::to_string(s.heads) + "x" + std::to_string(s.d);
    if (p.norm != Norm::kNone) text += p.norm == Norm::kHead ? "_head" : "_weighted";
    if (p.pairs > 0) text += (p.inverse ? "_back" : "_rope") + std::to_string(p.pairs);
    if (p.hadamard) text += "_hadamard";
    if (p.rounded > 0) {
      text += (p.format == Format::kE4M3 ? "_e4m3_" : "_e2m1_") + std::to_string(p.rounded) + "by" +
              std::to_string(p.block);
    }
    if (p.stored) text += "_stored";
    if (s.padding > 0) text += "_strided" + std::to_string(s.padding);
    return text + (s.not_finite ? "_nonfinite" : "");
  }
  static FinishRows::Set Build(const Shape& s, const Case& c, TestArena& m) {
    const Steps& p = s.steps;
    FinishRows::Set set{.x = Rows(s, c.dtype, m),
                        .norm = p.norm,
                        .inverse = p.inverse,
                        .hadamard = p.hadamard,
                        .format = p.format,
                        .block = p.block,
                        .rounded = p.rounded};
    if (p.norm == Norm::kWeighted) set.weight = m.Normal(c.weight, {s.d}, 0.25, 1);
    if (p.pairs > 0) {
      std::vector<float> freqs;
      for (int64_t i = 0; i < p.pairs; ++i) freqs.push_back(float(std::pow(10000.0, -double(i) / double(p.pairs))));
      set.positions = m.Integers(DType::kI32, {s.n}, 0, 1048575);
      set.freqs = m.Values<float>({p.pairs}, freqs);
    }
    if (p.stored) {
      std::vector<int32_t> places(size_t(s.n + 5));
      std::iota(places.begin(), places.end(), 0);
      std::shuffle(places.begin(), places.end(), m.rng());
      if (c.weight == c.dtype) {  // the last row of the pool is written in some cases only
        std::iter_swap(places.begin(), std::max_element(places.begin(), places.end()));
      }
      places.resize(size_t(s.n));
      for (size_t i = 1; i < places.size(); i += 3) places[i] = -1;
      set.rows = m.Values<int32_t>({s.n}, places);
      set.pool = m.Normal(c.dtype, {s.n + 5, s.d});
    }
    return set;
  }
  // x [n, H * d].
  static TensorView Matrix(const TensorView& x) {
    return TensorView(x.raw(), x.dtype(), {x.dim(0), x.stride(0)}).Columns(0, x.dim(1) * x.dim(2));
  }
  // x [n, H, d], between tokens `padding` elements that a kernel must leave alone.
  static MutTensorView Rows(const Shape& s, DType t, TestArena& m) {
    const int64_t width = s.heads * s.d;
    const MutTensorView x = NormalRows(m, t, {s.n, width}, s.padding).SplitColumns(s.d);
    for (int64_t r = 1; s.not_finite && r < s.n; r += 2) {
      const float v = r % 4 == 1 ? NAN : INFINITY;
      WithFloatType(t, [&](auto e) { x.MutRow<decltype(e)>(r)[5] = FromFloat<decltype(e)>(v); });
    }
    return x;
  }
};

}  // namespace vexil
