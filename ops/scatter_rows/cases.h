#pragma once

#include <algorithm>

#include "ops/scatter_rows/scatter_rows.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<ScatterRows> {
  struct Case {
    int64_t rows, pool_rows, d;
    DType dtype;
    bool skip, strided;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({n, 4096, 512, DType::kBF16, false, false});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({3, 5, 7, t, true, false});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({0, 4, 8, t, false, false});
      cases.push_back({1, 1, 1, t, false, false});
      cases.push_back({6, 6, 33, t, false, true});
      cases.push_back({70, 200, 512, t, true, false});
    }
    cases.push_back({9, 20, 16, DType::kI32, true, false});
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "rows=" + std::to_string(c.rows) + ",pool=" + std::to_string(c.pool_rows) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype) + (c.skip ? ",skip" : "") + (c.strided ? ",strided" : "");
  }
  static ScatterRows::Args Build(const Case& c, TestArena& m) {
    const auto matrix = [&](int64_t rows) {
      const int64_t padding = c.strided ? 3 : 0;
      if (c.dtype == DType::kI32) return m.Integers(c.dtype, {rows, c.d}, -1000, 1000);
      return m.Normal(c.dtype, {rows, c.d + padding}).Columns(0, c.d);
    };
    std::vector<int32_t> places(static_cast<size_t>(c.pool_rows));
    for (size_t i = 0; i < places.size(); ++i) places[i] = int32_t(i);
    std::shuffle(places.begin(), places.end(), m.rng());
    places.resize(size_t(c.rows));
    for (size_t i = 1; c.skip && i < places.size(); i += 3) places[i] = -1;
    return {.x = matrix(c.rows), .rows = m.Values<int32_t>({c.rows}, places), .pool = matrix(c.pool_rows)};
  }
  static std::vector<Expected> Reference(const ScatterRows::Args& a) {
    const std::vector<double> x = ToF64(a.x), rows = ToF64(a.rows);
    const size_t d = size_t(a.x.dim(1));
    Expected pool{"pool", a.pool, ToF64(a.pool), {}};
    pool.tolerance.assign(pool.value.size(), 0);
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] < 0) continue;
      for (size_t c = 0; c < d; ++c) pool.value[size_t(rows[i]) * d + c] = x[i * d + c];
    }
    return {pool};
  }
  static OpCost Cost(const ScatterRows::Args& a) {
    return {NameOf(a.x.dtype()), a.x.dim(0), 2 * TotalBytes({a.x}) + TotalBytes({a.rows}), 0};
  }
  static std::vector<std::string_view> Faults() { return {"short_row", "ignored_minus_one"}; }
};

}  // namespace vexil
