#pragma once

#include <algorithm>

#include "ops/attention_rows/attention_rows.h"
#include "testing/conformance.h"
#include "testing/ragged_step.h"

namespace vexil {

template <>
struct Conformance<AttentionRows> {
  enum class Compressed { kNone, kAll, kPicks };
  struct Case {
    std::vector<StepSequence> sequences;
    int64_t window, capacity;
    Compressed compressed;
    int64_t per_block, ratio, picks, spare;  // spare: columns beyond what is needed
  };

  static std::vector<Case> PerfCases() {
    using enum Compressed;
    std::vector<Case> cases;
    for (int64_t n : {1, 16, 128}) {
      cases.push_back({{{4096, n, 0}}, 128, 136, kPicks, 64, 4, 512, 0});
      cases.push_back({{{4096, n, 0}}, 128, 136, kAll, 2, 128, 0, 0});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    using enum Compressed;
    // Starts in the middle of windows and blocks, chunks longer than a ring, one token, slots out of order.
    const std::vector<StepSequence> ragged = {{5, 3, 2}, {0, 11, 0}, {14, 1, 3}, {9, 7, 1}};
    std::vector<Case> cases = {{ragged, 4, 6, kAll, 2, 3, 0, 1}, {ragged, 4, 4, kPicks, 3, 2, 3, 0}};
    if (tier == Tier::kSmoke) return cases;
    cases.push_back({{}, 4, 6, kNone, 0, 0, 0, 0});
    cases.push_back({{{0, 1, 0}}, 1, 1, kAll, 1, 1, 0, 0});
    cases.push_back({{{0, 1, 0}}, 4, 4, kAll, 2, 4, 0, 0});
    cases.push_back({ragged, 4, 6, kNone, 0, 0, 0, 0});
    cases.push_back({ragged, 1, 1, kNone, 0, 0, 0, 5});
    cases.push_back({ragged, 32, 37, kAll, 1, 4, 0, 9});
    cases.push_back({{{0, 0, 1}, {3, 2, 0}}, 4, 6, kPicks, 2, 2, 5, 2});
    // The published sizes: ratio 128 with every entry, ratio 4 with 512 picks.
    cases.push_back({{{1000, 3, 1}, {126, 4, 0}}, 128, 133, kAll, 2, 128, 0, 0});
    cases.push_back({{{5000, 2, 0}, {20, 3, 1}}, 128, 133, kPicks, 64, 4, 512, 0});
    return cases;
  }
  static std::string Describe(const Case& c) {
    const char* kinds[] = {"none", "all", "picks"};
    return "step=" + DescribeStep(c.sequences) + ",window=" + std::to_string(c.window) +
           ",capacity=" + std::to_string(c.capacity) + ",compressed=" + kinds[int(c.compressed)] +
           ",per_block=" + std::to_string(c.per_block) + ",ratio=" + std::to_string(c.ratio) +
           ",picks=" + std::to_string(c.picks) + ",spare=" + std::to_string(c.spare);
  }
  static AttentionRows::Args Build(const Case& c, TestArena& m) {
    const StepTensors step = MakeStep(m, c.sequences);
    AttentionRows::Args a{.positions = step.positions,
                          .seq = step.seq,
                          .seq_begin = step.seq_begin,
                          .slot = step.slot,
                          .window = c.window,
                          .window_capacity = c.capacity,
                          .step_rows = step.tokens + 2,
                          .window_rows = 4 * c.capacity,
                          .rows = {}};
    int64_t columns = c.window + c.spare;
    if (c.compressed != Compressed::kNone) {
      std::vector<int64_t> entries;
      for (const StepSequence& s : c.sequences) entries.push_back((s.first + s.length) / c.ratio);
      a.block_table = MakeBlockTable(m, entries, c.per_block, 64);
      a.entries_per_block = c.per_block;
      a.ratio = c.ratio;
      columns += c.compressed == Compressed::kPicks ? c.picks : *std::max_element(entries.begin(), entries.end());
    }
    if (c.compressed == Compressed::kPicks) a.picks = Picks(c, step, m);
    a.rows = m.Poison(DType::kI32, {step.tokens, columns});
    return a;
  }
  static std::vector<Expected> Reference(const AttentionRows::Args& a) {
    Expected rows{"rows", a.rows, {}, {}};
    for (int64_t i = 0; i < a.rows.dim(0); ++i) {
      std::vector<int64_t> list = Window(a, i);
      list.resize(size_t(a.window), -1);
      const std::vector<int64_t> compressed = Entries(a, i);
      list.insert(list.end(), compressed.begin(), compressed.end());
      list.resize(size_t(a.rows.dim(1)), -1);
      rows.value.insert(rows.value.end(), list.begin(), list.end());
    }
    rows.tolerance.assign(rows.value.size(), 0);
    return {rows};
  }
  static OpCost Cost(const AttentionRows::Args& a) {
    return {NameOf(a.rows.dtype()), a.rows.dim(0), TotalBytes({a.rows, a.picks}), 0};
  }
  static std::vector<std::string_view> Faults() {
    return {"window_plus_one", "without_itself", "ring_only", "slot_by_token", "ignored_block_table", "entry_late"};
  }

 private:
  // Picks among the entries that each token sees, -1 here and there.
  static TensorView Picks(const Case& c, const StepTensors& step, TestArena& m) {
    std::vector<int32_t> picks;
    for (int64_t i = 0; i < step.tokens; ++i) {
      const int64_t visible = (step.positions.Data<int32_t>()[i] + 1) / c.ratio;
      for (int64_t k = 0; k < c.picks; ++k) {
        const uint64_t draw = m.rng()();
        picks.push_back(visible == 0 || draw % 8 == 0 ? -1 : int32_t(draw / 8 % uint64_t(visible)));
      }
    }
    return m.Values<int32_t>({step.tokens, c.picks}, picks);
  }
  static std::vector<int64_t> Window(const AttentionRows::Args& a, int64_t i) {
    const int64_t s = a.seq.Data<int32_t>()[i], t = a.positions.Data<int32_t>()[i];
    std::vector<int64_t> list;
    for (int64_t p = std::max<int64_t>(0, t - (a.window - 1)); p <= t; ++p) {
      const int64_t back = t - p;  // the step's tokens of one sequence are consecutive
      if (i - back >= a.seq_begin.Data<int32_t>()[s]) {
        list.push_back(i - back);
      } else {
        list.push_back(a.step_rows + a.slot.Data<int32_t>()[s] * a.window_capacity + p % a.window_capacity);
      }
    }
    return list;
  }
  static std::vector<int64_t> Entries(const AttentionRows::Args& a, int64_t i) {
    const int64_t s = a.seq.Data<int32_t>()[i], t = a.positions.Data<int32_t>()[i], per_block = a.entries_per_block;
    std::vector<int64_t> list;
    if (per_block == 0) return list;
    const int64_t count = a.picks.empty() ? (t + 1) / a.ratio : a.picks.dim(1);
    for (int64_t k = 0; k < count; ++k) {
      const int64_t j = a.picks.empty() ? k : a.picks.Row<int32_t>(i)[k];
      const int64_t page = j < 0 ? 0 : a.block_table.Row<int32_t>(s)[j / per_block];
      list.push_back(j < 0 ? -1 : a.step_rows + a.window_rows + page * per_block + j % per_block);
    }
    return list;
  }
};

}  // namespace vexil
