#pragma once

#include <algorithm>
#include <numeric>

#include "ops/indexer_top_k/indexer_top_k.h"
#include "testing/conformance.h"
#include "testing/ragged_step.h"

namespace vexil {

// Small integers, so that every sum is exact in any order and the choice is the only one. Many scores are equal.
template <>
struct Conformance<IndexerTopK> {
  struct Case {
    std::vector<int64_t> counts;  // of the tokens
    int64_t max_count, heads, d, per_block, k;
    DType dtype;
    int64_t per_sequence = 2;  // tokens of each sequence
    int64_t spare_pages = 40;  // that nobody refers to, so that the table matters
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t context : {512, 4096, 32768, 131072}) {
      for (int64_t n : {1, 16, 128}) {
        if (n * context > int64_t(1) << 21) continue;
        const int64_t m = context / 4;
        cases.push_back({std::vector<int64_t>(size_t(n), m), m, 64, 128, 64, 512, DType::kBF16, n});
      }
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({{25, 26, 0, 2}, 26, 3, 17, 2, 4, t});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({{}, 4, 2, 8, 2, 3, t});
      cases.push_back({{0}, 0, 2, 8, 2, 3, t});
      cases.push_back({{1}, 1, 1, 1, 1, 1, t});
      cases.push_back({{3, 9}, 9, 2, 6, 3, 20, t});        // k exceeds the entries
      cases.push_back({{9, 9}, 9, 2, 6, 3, 20, t, 1, 0});  // every row of the pool is chosen
      cases.push_back({{300, 15, 16, 17}, 300, 16, 32, 64, 16, t, 4});
      // More entries than a strip, more tokens than are taken at a time.
      cases.push_back({{20000, 8193, 19}, 20000, 2, 32, 7, 8, t, 3});
      cases.push_back({{17000}, 17000, 16, 32, 64, 512, t, 1});
      // The published sizes: tiles that are full and not, counts far below max_count, equal scores across tiles.
      cases.push_back({{1024, 1023, 512, 513, 33, 32, 31, 1, 0}, 1100, 64, 128, 64, 512, t, 3});
      cases.push_back({{3000, 40}, 4100, 64, 128, 64, 512, t, 1});
      cases.push_back({{40000, 33}, 40000, 1, 8, 64, 512, t, 1});
      cases.push_back({std::vector<int64_t>(65, 70), 70, 64, 128, 64, 16, t, 33});
      cases.push_back({std::vector<int64_t>(130, 40), 40, 2, 4, 8, 5, t, 65});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    std::string counts;
    for (int64_t n : c.counts) counts += (counts.empty() ? "" : ",") + std::to_string(n);
    constexpr size_t kLongList = 12;
    if (c.counts.size() > kLongList) counts = std::to_string(c.counts.size()) + "x" + std::to_string(c.counts[0]);
    return "counts=" + counts + ",max_count=" + std::to_string(c.max_count) + ",heads=" + std::to_string(c.heads) +
           ",d=" + std::to_string(c.d) + (c.spare_pages ? "" : ",full_pool") +
           ",per_block=" + std::to_string(c.per_block) + ",k=" + std::to_string(c.k) + ",dtype=" + NameOf(c.dtype);
  }
  static IndexerTopK::Args Build(const Case& c, TestArena& m) {
    const int64_t n = int64_t(c.counts.size());
    std::vector<int32_t> seq, count(c.counts.begin(), c.counts.end());
    std::vector<int64_t> entries(size_t((n + c.per_sequence - 1) / c.per_sequence), c.max_count);
    for (int64_t i = 0; i < n; ++i) seq.push_back(int32_t(i / c.per_sequence));
    int64_t pages = c.spare_pages;
    for (int64_t e : entries) pages += (e + c.per_block - 1) / c.per_block;
    return {.q = m.Integers(c.dtype, {n, c.heads, c.d}, -2, 2),
            .w = m.Integers(c.dtype, {n, c.heads}, -1, 2),
            .keys = m.Integers(c.dtype, {pages * c.per_block, c.d}, -2, 2),
            .seq = m.Values<int32_t>({n}, seq),
            .block_table = entries.empty() ? m.Integers(DType::kI32, {1, c.max_count}, 0, 0)
                                           : MakeBlockTable(m, entries, c.per_block, pages),
            .count = m.Values<int32_t>({n}, count),
            .entries_per_block = c.per_block,
            .max_count = c.max_count,
            .indices = m.Poison(DType::kI32, {n, c.k})};
  }
  static std::vector<Expected> Reference(const IndexerTopK::Args& a) {
    const std::vector<double> q = ToF64(a.q), w = ToF64(a.w), keys = ToF64(a.keys);
    const int64_t heads = a.q.dim(1), d = a.q.dim(2), block = a.entries_per_block;
    Expected indices{"indices", a.indices, {}, {}};
    for (int64_t t = 0; t < a.q.dim(0); ++t) {
      const int32_t* pages = a.block_table.Row<int32_t>(a.seq.Data<int32_t>()[t]);
      std::vector<double> scores;
      for (int64_t j = 0; j < a.count.Data<int32_t>()[t]; ++j) {
        const double* key = &keys[size_t((pages[j / block] * block + j % block) * d)];
        scores.push_back(Score(&q[size_t(t * heads * d)], key, &w[size_t(t * heads)], heads, d, a.q.dtype()));
      }
      std::vector<int64_t> order(scores.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t l, int64_t r) { return scores[size_t(l)] > scores[size_t(r)]; });
      order.resize(size_t(a.indices.dim(1)), -1);
      indices.value.insert(indices.value.end(), order.begin(), order.end());
    }
    indices.tolerance.assign(indices.value.size(), 0);
    return {indices};
  }
  static OpCost Cost(const IndexerTopK::Args& a) {
    double scored = 0, keys = 0;
    for (int64_t t = 0; t < a.q.dim(0); ++t) {
      const double count = a.count.Data<int32_t>()[t];
      scored += count;
      if (t == 0 || a.seq.Data<int32_t>()[t] != a.seq.Data<int32_t>()[t - 1]) keys += count;
    }
    const double key_bytes = double(a.q.dim(2) * BytesOf(a.q.dtype()));
    return {NameOf(a.q.dtype()), a.q.dim(0), keys * key_bytes + TotalBytes({a.q, a.indices}),
            2 * scored * double(a.q.dim(1) * a.q.dim(2)), UnitOf(a.q.dtype())};
  }
  // In the plain kernels of the two ops.
  static std::vector<std::string_view> Faults() {
    return {"no_relu", "reversed_heads", "ignored_block_table", "ties_to_higher", "unsorted"};
  }

 private:
  static double Score(const double* q, const double* key, const double* w, int64_t heads, int64_t d, DType t) {
    double sum = 0;
    for (int64_t h = 0; h < heads; ++h) {
      double dot = 0;
      for (int64_t i = 0; i < d; ++i) dot += q[h * d + i] * key[i];
      sum += RoundTo(t, std::max(RoundTo(t, dot), 0.0) * w[h]);
    }
    return RoundTo(t, sum);
  }
};

}  // namespace vexil
