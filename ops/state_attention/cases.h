#pragma once

#include <cmath>

#include "ops/attention_rows/cases.h"
#include "ops/sparse_attention/cases.h"
#include "ops/state_attention/state_attention.h"
#include "testing/conformance.h"

namespace vexil {

template <>
struct Conformance<StateAttention> {
  using Lists = Conformance<AttentionRows>;
  struct Case {
    Lists::Case lists;
    int64_t heads, d;
    DType dtype;
  };

  static std::vector<Case> PerfCases() {
    using enum Lists::Compressed;
    std::vector<Case> cases;
    for (int64_t n : {1, 8, 32}) {
      std::vector<StepSequence> steps;
      for (int64_t s = 0; s < n; ++s) steps.push_back({4095, 1, s % 4});
      cases.push_back({{steps, 128, 136, kNone, 0, 0, 0, 0}, 64, 512, DType::kBF16});
      if (n == 1) cases.push_back({{steps, 128, 136, kPicks, 64, 4, 512, 0}, 64, 512, DType::kBF16});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    using enum Lists::Compressed;
    const std::vector<StepSequence> ragged = {{5, 3, 2}, {0, 11, 0}, {14, 1, 3}, {9, 7, 1}};
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({{ragged, 4, 6, kAll, 2, 3, 0, 1}, 2, 7, t});
      cases.push_back({{ragged, 4, 4, kPicks, 3, 2, 3, 0}, 2, 7, t});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({{{}, 4, 6, kNone, 0, 0, 0, 0}, 2, 8, t});
      cases.push_back({{ragged, 1, 1, kNone, 0, 0, 0, 5}, 2, 7, t});
      cases.push_back({{ragged, 4, 6, kNone, 0, 0, 0, 5}, 2, 16, t});
    }
    if (tier == Tier::kSmoke) return cases;
    // The published widths: one split and several; lists that end within a block; entries that a token does not see.
    for (const Lists::Case& lists : {Lists::Case{ragged, 4, 6, kAll, 2, 3, 0, 1},
                                     {{{1000, 3, 1}, {126, 2, 0}}, 128, 133, kAll, 2, 128, 0, 0},
                                     {{{900, 2, 0}, {20, 1, 1}}, 128, 133, kPicks, 64, 4, 512, 0},
                                     {{{130, 1, 3}, {0, 2, 1}}, 128, 131, kNone, 0, 0, 0, 0},
                                     {{{50, 66, 0}}, 40, 44, kPicks, 8, 4, 30, 3},
                                     {{{2303, 1, 0}, {7, 1, 2}}, 128, 133, kAll, 64, 2, 0, 70}}) {
      cases.push_back({lists, 64, 512, DType::kBF16});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return Lists::Describe(c.lists) + ",heads=" + std::to_string(c.heads) + ",d=" + std::to_string(c.d) +
           ",dtype=" + NameOf(c.dtype);
  }
  static StateAttention::Args Build(const Case& c, TestArena& m) {
    StateAttention::Args a;
    a.lists = Lists::Build(c.lists, m);
    a.columns = a.lists.rows.dim(1);
    a.lists.rows = {};
    a.lists.step_rows = a.lists.positions.dim(0);
    constexpr int64_t kPages = 64;  // of the lists' block tables
    const int64_t n = a.lists.positions.dim(0), pool = kPages * a.lists.entries_per_block;
    a.attention = {.q = m.Normal(c.dtype, {n, c.heads, c.d}, 4),
                   .rows = {},
                   .step_kv = m.Normal(c.dtype, {a.lists.step_rows, c.d}),
                   .window_kv = m.Normal(c.dtype, {a.lists.window_rows, c.d}),
                   .compressed_kv = pool == 0 ? MutTensorView() : m.Normal(c.dtype, {pool, c.d}),
                   .sink = m.Normal(DType::kF32, {c.heads}, 1.5),
                   .scale = float(1 / std::sqrt(double(c.d))),
                   .y = m.Poison(c.dtype, {n, c.heads, c.d})};
    return a;
  }
  static std::vector<Expected> Reference(const StateAttention::Args& a) {
    const std::vector<int32_t> rows = ListOf(a);
    const TensorView list(rows.data(), DType::kI32, {a.lists.positions.dim(0), a.columns});
    return Conformance<SparseAttention>::Reference(AttentionWith(a, list));
  }
  static OpCost Cost(const StateAttention::Args& a) {
    const std::vector<int32_t> rows = ListOf(a);
    const TensorView list(rows.data(), DType::kI32, {a.lists.positions.dim(0), a.columns});
    return Conformance<SparseAttention>::Cost(AttentionWith(a, list));
  }
  // In the plain kernels of the two ops.
  static std::vector<std::string_view> Faults() {
    return {"window_plus_one", "ring_only", "slot_by_token", "ignored_block_table", "dropped_sink", "wrong_scale"};
  }

 private:
  static std::vector<int32_t> ListOf(const StateAttention::Args& a) {
    std::vector<int32_t> rows(size_t(a.lists.positions.dim(0) * a.columns));
    const MutTensorView list(rows.data(), DType::kI32, {a.lists.positions.dim(0), a.columns});
    const Expected expected = Lists::Reference(ListsWith(a, list))[0];
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = int32_t(expected.value[i]);
    return rows;
  }
};

}  // namespace vexil
