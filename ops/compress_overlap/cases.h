#pragma once

#include <algorithm>
#include <cmath>

#include "ops/compress_overlap/compress_overlap.h"
#include "testing/conformance.h"
#include "testing/interval.h"
#include "testing/ragged_step.h"

namespace vexil {

template <>
struct Conformance<CompressOverlap> {
  struct Case {
    std::vector<StepSequence> sequences;
    int64_t slots, capacity, ratio, d;
    DType dtype;
    bool strided;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) {
      cases.push_back({{{4099, n, 0}}, 1, 16, 4, 512, DType::kBF16, false});
      cases.push_back({{{4099, n, 0}}, 1, 16, 4, 128, DType::kBF16, false});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    // Starts at 0 and in the middle of blocks, a chunk longer than the ring, one token that completes a block or not.
    const std::vector<StepSequence> ragged = {{6, 3, 3}, {0, 21, 0}, {15, 1, 4}, {5, 1, 1}, {3, 10, 2}};
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({ragged, 5, 8, 4, 5, t, false});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({{}, 1, 8, 4, 3, t, false});
      cases.push_back({{{0, 0, 0}}, 1, 8, 4, 3, t, false});
      cases.push_back({{{0, 1, 0}}, 1, 8, 4, 1, t, false});
      cases.push_back({ragged, 6, 13, 4, 67, t, true});
      cases.push_back({ragged, 5, 6, 3, 16, t, false});
      cases.push_back({{{16, 4, 0}}, 1, 8, 4, 16, t, false});  // reads the ring's last row
      cases.push_back({{{12, 4, 0}}, 1, 8, 4, 16, t, false});  // writes it
      cases.push_back({{{3, 3, 0}}, 1, 6, 3, 16, t, false});
      cases.push_back({{{4, 5, 1}, {0, 4, 0}}, 2, 2, 1, 9, t, false});
      cases.push_back({{{1022, 9, 1}, {0, 6, 0}}, 2, 14, 4, 512, t, true});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "step=" + DescribeStep(c.sequences) + ",capacity=" + std::to_string(c.capacity) +
           ",ratio=" + std::to_string(c.ratio) + ",d=" + std::to_string(c.d) + ",dtype=" + NameOf(c.dtype) +
           (c.strided ? ",strided" : "");
  }
  // The ring holds the last 2 * ratio positions before the step; every other row of it is NaN.
  static CompressOverlap::Args Build(const Case& c, TestArena& m) {
    const StepTensors step = MakeStep(m, c.sequences);
    const int64_t width = 2 * c.d;
    const MutTensorView both = m.Normal(DType::kF32, {step.tokens, 2 * width}, 3);  // scores far enough apart
    const MutTensorView ring = m.Poison(DType::kF32, {c.slots, c.capacity, 2, width});
    std::normal_distribution<float> draw(0, 3);
    for (const StepSequence& s : c.sequences) {
      for (int64_t p = std::max<int64_t>(0, s.first - 2 * c.ratio); p < s.first; ++p) {
        float* row = ring.MutRow<float>(s.slot) + p % c.capacity * 2 * width;
        for (int64_t i = 0; i < 2 * width; ++i) row[i] = draw(m.rng());
      }
    }
    const MutTensorView entry_begin = MakeEntryBegin(m, c.sequences, c.ratio);
    const int64_t entries = entry_begin.Data<int32_t>()[c.sequences.size()];
    return {.kv = c.strided ? both.Columns(0, width) : m.Normal(DType::kF32, {step.tokens, width}),
            .score = c.strided ? both.Columns(width, 2 * width) : m.Normal(DType::kF32, {step.tokens, width}, 3),
            .ape = m.Normal(DType::kF32, {c.ratio, width}),
            .positions = step.positions,
            .seq_begin = step.seq_begin,
            .slot = step.slot,
            .ratio = c.ratio,
            .ring = ring,
            .entry_begin = entry_begin,
            .entries = m.Poison(c.dtype, {entries + (c.strided ? 0 : 1), c.d})};
  }
  static std::vector<Expected> Reference(const CompressOverlap::Args& a) {
    Expected entries{"entries", a.entries, {}, {}};
    for (int64_t s = 0; s < a.slot.dim(0); ++s) {
      const Rows rows(a, s);
      for (int64_t p = rows.first; p < rows.end; ++p) {
        for (int64_t c = 0; (p + 1) % a.ratio == 0 && c < a.entries.dim(1); ++c) {
          Append(entries, RoundTo(a.entries.dtype(), Entry(a, rows, p / a.ratio, c)));
        }
      }
    }
    entries.value.resize(size_t(a.entries.dims().Count()), std::nan(""));  // a spare row stays poisoned
    entries.tolerance.resize(entries.value.size(), 0);
    return {Ring(a), entries};
  }
  static OpCost Cost(const CompressOverlap::Args& a) {
    // Each token is read, and written to the ring; an entry reads its candidates.
    const double candidates = 2.0 * double(a.ratio) * Count(a.entries);
    return {NameOf(a.entries.dtype()), a.kv.dim(0), 2 * TotalBytes({a.kv, a.score}) + TotalBytes({a.ape, a.entries}),
            Count(a.score) + 12 * candidates};
  }
  static std::vector<std::string_view> Faults() {
    return {"no_ape", "ape_of_row", "swapped_halves", "own_block_only", "previous_of_first"};
  }

 private:
  // The (kv, score + ape) rows of one sequence by position: from the step, or before it from the ring.
  struct Rows {
    const CompressOverlap::Args& a;
    int64_t slot, step_begin, first = 0, end = 0;

    Rows(const CompressOverlap::Args& args, int64_t s)
        : a(args), slot(a.slot.Data<int32_t>()[s]), step_begin(a.seq_begin.Data<int32_t>()[s]) {
      const int64_t tokens = a.seq_begin.Data<int32_t>()[s + 1] - step_begin;
      if (tokens > 0) first = a.positions.Data<int32_t>()[step_begin];
      end = first + tokens;
    }
    const float* Stored(int64_t p) const { return a.ring.Row<float>(slot) + p % a.ring.dim(1) * a.ring.stride(1); }
    double Kv(int64_t p, int64_t c) const {
      return p >= first ? a.kv.Row<float>(step_begin + p - first)[c] : Stored(p)[c];
    }
    double Score(int64_t p, int64_t c) const {
      if (p < first) return Stored(p)[a.ring.dim(3) + c];
      const double score = a.score.Row<float>(step_begin + p - first)[c];
      return RoundTo(DType::kF32, score + double(a.ape.Row<float>(p % a.ratio)[c]));
    }
  };
  static Interval Entry(const CompressOverlap::Args& a, const Rows& rows, int64_t j, int64_t c) {
    const int64_t r = a.ratio, d = a.entries.dim(1);
    std::vector<double> value, score;
    for (int64_t p = (j - 1) * r; p < j * r; ++p) {
      if (j == 0) continue;
      value.push_back(rows.Kv(p, c));
      score.push_back(rows.Score(p, c));
    }
    for (int64_t p = j * r; p < (j + 1) * r; ++p) {
      value.push_back(rows.Kv(p, d + c));
      score.push_back(rows.Score(p, d + c));
    }
    double max = -INFINITY, lowest = INFINITY, sum = 0, weighted = 0, magnitude = 0;
    for (double s : score) max = std::max(max, s), lowest = std::min(lowest, s);
    for (size_t i = 0; i < score.size(); ++i) {
      const double e = std::exp(score[i] - max);
      sum += e;
      weighted += e * value[i];
      magnitude += e * std::abs(value[i]);
    }
    // Each weight carries the error of its own exponential, of their sum and of the quotient; then a sum of products.
    const int64_t terms = int64_t(score.size());
    const double weight_error = 2 * ExpError(max - lowest, 0) + SumError(terms, 1) + Epsilon(DType::kF32);
    return Around(weighted / sum, magnitude / sum * (weight_error + SumError(terms, 1)));
  }
  // Every row of the ring afterwards: the step's rows in order of position, the others as they were.
  static Expected Ring(const CompressOverlap::Args& a) {
    Expected ring{"ring", a.ring, ToF64(a.ring), {}};
    ring.tolerance.assign(ring.value.size(), 0);
    const int64_t width = a.ring.dim(3);
    for (int64_t s = 0; s < a.slot.dim(0); ++s) {
      const Rows rows(a, s);
      for (int64_t p = rows.first; p < rows.end; ++p) {
        double* row = ring.value.data() + (rows.slot * a.ring.dim(1) + p % a.ring.dim(1)) * 2 * width;
        for (int64_t c = 0; c < width; ++c) {
          row[c] = rows.Kv(p, c);
          row[width + c] = rows.Score(p, c);
        }
      }
    }
    return ring;
  }
};

}  // namespace vexil
