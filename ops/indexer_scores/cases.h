#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/indexer_scores/indexer_scores.h"
#include "testing/conformance.h"
#include "testing/interval.h"
#include "testing/ragged_step.h"

namespace vexil {

template <>
struct Conformance<IndexerScores> {
  struct Case {
    std::vector<int64_t> counts;  // of the tokens
    int64_t columns, heads, d, per_block;
    DType dtype;
    bool strided;
    int64_t per_sequence = 2;  // tokens of each sequence
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t context : {512, 4096, 32768, 131072}) {
      for (int64_t n : {1, 16, 128}) {
        if (n * context > int64_t(1) << 21) continue;
        cases.push_back(
            {std::vector<int64_t>(size_t(n), context / 4), context / 4, 64, 128, 64, DType::kBF16, false, n});
      }
    }
    std::vector<int64_t> prompt;  // of 8192 tokens
    for (int64_t t = 1; t <= 8192; ++t) prompt.push_back(t / 4);
    cases.push_back({prompt, 2048, 64, 128, 64, DType::kBF16, false, 8192});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({{5, 6, 0, 2}, 7, 3, 17, 2, t, false});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({{}, 4, 2, 8, 2, t, false});
      cases.push_back({{0}, 0, 2, 8, 2, t, false});
      cases.push_back({{1}, 1, 1, 1, 1, t, false});
      cases.push_back({{3, 4}, 4, 2, 2, 3, t, false});
      cases.push_back({{64, 63, 130, 129}, 130, 5, 33, 7, t, true});
      cases.push_back({{70, 71, 9}, 71, 64, 128, 64, t, false});
      // Widths of matrix instructions; many tokens of one sequence; ranges and counts that do not fill them.
      cases.push_back({{0, 1, 15, 16, 17, 300, 299, 31, 32, 33, 300}, 301, 16, 32, 7, t, true, 9});
      cases.push_back({{64, 64}, 64, 16, 32, 64, t, false, 1});  // every row of the pool
      cases.push_back({{255, 256, 257, 40}, 257, 48, 64, 64, t, false, 3});
      // The published sizes: tiles of 32 that are full and not; more tiles than there are blocks for them.
      cases.push_back({{0, 1, 31, 32, 33, 64, 301, 300}, 333, 64, 128, 64, t, false, 4});
      std::vector<int64_t> many(60, 40);
      many[7] = 700;
      cases.push_back({many, 700, 64, 128, 64, t, false, 20});
      // Many tokens of a few sequences, whose borders do not fit the tiles of a kernel.
      std::vector<int64_t> ragged;
      for (int64_t i = 0; i < 21; ++i) ragged.push_back(i == 3 ? 0 : 60 + 7 * i);
      cases.push_back({ragged, 201, 64, 128, 64, t, false, 11});
      cases.push_back({std::vector<int64_t>(16, 600), 705, 64, 128, 128, t, false, 5});
      // Few heads, as in small models.
      cases.push_back({{70, 259, 9}, 260, 4, 32, 64, t, true});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    std::string counts;
    for (int64_t n : c.counts) counts += (counts.empty() ? "" : ",") + std::to_string(n);
    constexpr size_t kLongList = 12;
    if (c.counts.size() > kLongList) counts = std::to_string(c.counts.size()) + "x" + std::to_string(c.counts[0]);
    return "counts=" + counts + ",columns=" + std::to_string(c.columns) + ",heads=" + std::to_string(c.heads) +
           ",d=" + std::to_string(c.d) + ",per_block=" + std::to_string(c.per_block) + ",dtype=" + NameOf(c.dtype) +
           (c.strided ? ",strided" : "");
  }
  static IndexerScores::Args Build(const Case& c, TestArena& m) {
    const int64_t n = int64_t(c.counts.size()), padding = c.strided ? 5 : 0;
    std::vector<int32_t> seq, count(c.counts.begin(), c.counts.end());
    std::vector<int64_t> entries(size_t((n + c.per_sequence - 1) / c.per_sequence), 0);
    for (size_t i = 0; i < c.counts.size(); ++i) {
      const size_t s = i / size_t(c.per_sequence);
      seq.push_back(int32_t(s));
      entries[s] = std::max(entries[s], c.counts[i]);
    }
    int64_t pages = c.strided ? 40 : 0;  // more than are needed
    for (int64_t e : entries) pages += CeilDivide(e, c.per_block);
    return {.q = m.Normal(c.dtype, {n, c.heads, c.d + padding}).Columns(0, c.d),
            .w = m.Normal(c.dtype, {n, c.heads + padding}, 0.1).Columns(0, c.heads),
            .keys = m.Normal(c.dtype, {pages * c.per_block, c.d + padding}).Columns(0, c.d),
            .seq = m.Values<int32_t>({n}, seq),
            .block_table = MakeBlockTable(m, entries, c.per_block, pages),
            .count = m.Values<int32_t>({n}, count),
            .entries_per_block = c.per_block,
            .scores = m.Poison(DType::kF32, {n, c.columns + padding}).Columns(0, c.columns)};
  }
  static std::vector<Expected> Reference(const IndexerScores::Args& a) {
    const std::vector<double> q = ToF64(a.q), w = ToF64(a.w), keys = ToF64(a.keys);
    const int64_t heads = a.q.dim(1), d = a.q.dim(2), block = a.entries_per_block;
    Expected scores{"scores", a.scores, {}, {}};
    for (int64_t t = 0; t < a.q.dim(0); ++t) {
      const int32_t* pages = a.block_table.Row<int32_t>(a.seq.Data<int32_t>()[t]);
      for (int64_t j = 0; j < a.scores.dim(1); ++j) {
        if (j >= a.count.Data<int32_t>()[t]) {
          scores.value.push_back(-std::numeric_limits<double>::infinity());
          scores.tolerance.push_back(0);
          continue;
        }
        const int64_t row = pages[j / block] * block + j % block;
        Append(scores,
               Score(&q[size_t(t * heads * d)], &keys[size_t(row * d)], &w[size_t(t * heads)], heads, d, a.q.dtype()));
      }
    }
    return {scores};
  }
  static OpCost Cost(const IndexerScores::Args& a) {
    double scored = 0, keys = 0;
    for (int64_t t = 0; t < a.q.dim(0); ++t) {
      const double count = a.count.Data<int32_t>()[t];
      scored += count;
      if (t == 0 || a.seq.Data<int32_t>()[t] != a.seq.Data<int32_t>()[t - 1]) keys += count;
    }
    const double flops = 2 * scored * double(a.q.dim(1) * a.q.dim(2));
    return {NameOf(a.q.dtype()), a.q.dim(0),
            keys * double(a.q.dim(2) * BytesOf(a.q.dtype())) + TotalBytes({a.q, a.scores}), flops, UnitOf(a.q.dtype())};
  }
  static std::vector<std::string_view> Faults() {
    return {"unrounded_dot", "no_relu",     "reversed_heads",     "unrounded_product",
            "unrounded_sum", "zero_beyond", "ignored_block_table"};
  }

 private:
  static int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }
  static Interval Score(const double* q, const double* key, const double* w, int64_t heads, int64_t d, DType dtype) {
    Interval sum;
    double magnitude = 0;
    for (int64_t h = 0; h < heads; ++h) {
      double dot = 0, dot_magnitude = 0;
      for (int64_t i = 0; i < d; ++i) {
        dot += q[h * d + i] * key[i];
        dot_magnitude += std::abs(q[h * d + i] * key[i]);
      }
      const Interval rounded = RoundTo(dtype, Around(dot, SumError(d, dot_magnitude)));
      const double low = std::max(rounded.low, 0.0) * w[h], high = std::max(rounded.high, 0.0) * w[h];
      const Interval product = RoundTo(dtype, {std::min(low, high), std::max(low, high)});
      sum.low += product.low;
      sum.high += product.high;
      magnitude += std::max(std::abs(product.low), std::abs(product.high));
    }
    const double error = SumError(heads, magnitude);
    return RoundTo(dtype, {sum.low - error, sum.high + error});
  }
};

}  // namespace vexil
