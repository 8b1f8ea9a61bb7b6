#pragma once

#include "ops/embedding/embedding.h"
#include "testing/strided.h"

namespace vexil {

template <>
struct Conformance<Embedding> {
  struct Case {
    int64_t n, streams, vocabulary, d;
    DType table, y;
    int64_t padding;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 4, 129280, 4096, DType::kBF16, DType::kBF16, 0});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType table : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (DType y : {DType::kF32, DType::kBF16}) {
        cases.push_back({5, 2, 9, 7, table, y, 0});
        cases.push_back({1, 1, 3, 33, table, y, 3});
      }
    }
    cases.push_back({0, 4, 9, 16, DType::kBF16, DType::kBF16, 0});
    if (tier == Tier::kFull) cases.push_back({9, 4, 64, 4096, DType::kBF16, DType::kBF16, 0});
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",m=" + std::to_string(c.streams) + ",d=" + std::to_string(c.d) +
           ",table=" + NameOf(c.table) + ",y=" + NameOf(c.y) + (c.padding ? ",strided" : "");
  }
  static Embedding::Args Build(const Case& c, TestArena& m) {
    MutTensorView ids = m.Integers(DType::kI32, {c.n}, 0, c.vocabulary - 1);
    if (c.n > 0) ids.MutData<int32_t>()[0] = int32_t(c.vocabulary - 1);
    return {.ids = ids,
            .table = m.Normal(c.table, {c.vocabulary, c.d}),
            .y = m.Padded(c.y, {c.n, c.streams, c.d}, c.padding)};
  }
  static std::vector<Expected> Reference(const Embedding::Args& a) {
    const std::vector<double> table = ToF64(a.table);
    const int64_t d = a.table.dim(1);
    Expected y{"y", a.y, {}, {}};
    for (int64_t t = 0; t < a.ids.dim(0); ++t) {
      for (int64_t s = 0; s < a.y.dim(1); ++s) {
        for (int64_t i = 0; i < d; ++i) {
          y.value.push_back(RoundTo(a.y.dtype(), table[size_t(a.ids.Data<int32_t>()[t] * d + i)]));
        }
      }
    }
    y.tolerance.assign(y.value.size(), 0);
    return {y, UntouchedPadding(a.y)};
  }
  static OpCost Cost(const Embedding::Args& a) {
    return {NameOf(a.y.dtype()), a.ids.dim(0),
            TotalBytes({a.y}) + double(a.ids.dim(0) * a.table.dim(1) * BytesOf(a.table.dtype())), 0};
  }
  static std::vector<std::string_view> Faults() { return {"row_before", "first_stream_only"}; }
};

}  // namespace vexil
