#pragma once

#include <algorithm>
#include <cmath>

#include "ops/compress_running/compress_running.h"
#include "testing/conformance.h"
#include "testing/interval.h"
#include "testing/ragged_step.h"

namespace vexil {

template <>
struct Conformance<CompressRunning> {
  struct Case {
    std::vector<StepSequence> sequences;
    int64_t slots, capacity, ratio, d;
    DType dtype;
    bool strided;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    for (int64_t n : kPerfTokens) cases.push_back({{{4100, n, 0}}, 1, 9, 128, 512, DType::kBF16, false});
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    // Starts at 0 and in the middle of blocks, a chunk of several blocks, one token (which completes a block or not).
    const std::vector<StepSequence> ragged = {{6, 3, 3}, {0, 33, 0}, {15, 1, 4}, {5, 1, 1}, {3, 12, 2}};
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({ragged, 5, 3, 8, 5, t, false});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({{}, 1, 1, 8, 3, t, false});
      cases.push_back({{{0, 0, 0}}, 1, 1, 8, 3, t, false});
      cases.push_back({{{0, 1, 0}}, 1, 1, 8, 1, t, false});
      cases.push_back({ragged, 5, 1, 8, 7, t, false});
      cases.push_back({ragged, 6, 50, 4, 67, t, true});
      cases.push_back({ragged, 6, 5, 8, 80, t, true});
      cases.push_back({{{4, 5, 1}, {0, 4, 0}}, 2, 2, 1, 9, t, false});
      cases.push_back({{{1000, 30, 1}, {0, 131, 0}}, 2, 6, 128, 512, t, true});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "step=" + DescribeStep(c.sequences) + ",capacity=" + std::to_string(c.capacity) +
           ",ratio=" + std::to_string(c.ratio) + ",d=" + std::to_string(c.d) + ",dtype=" + NameOf(c.dtype) +
           (c.strided ? ",strided" : "");
  }
  // The state holds the position before the step where that is inside a block; all else of it is NaN.
  static CompressRunning::Args Build(const Case& c, TestArena& m) {
    const StepTensors step = MakeStep(m, c.sequences);
    const MutTensorView both = m.Normal(DType::kF32, {step.tokens, 2 * c.d}, 3);  // scores far enough apart
    const MutTensorView state = m.Poison(DType::kF32, {c.slots, c.capacity, 3, c.d});
    std::normal_distribution<float> draw(0, 2);
    for (const StepSequence& s : c.sequences) {
      if (s.first % c.ratio == 0) continue;
      float* row = state.MutRow<float>(s.slot) + (s.first - 1) % c.capacity * 3 * c.d;
      for (int64_t i = 0; i < c.d; ++i) {
        row[i] = draw(m.rng());
        row[c.d + i] = 1 + std::abs(draw(m.rng()));
        row[2 * c.d + i] = draw(m.rng());
      }
    }
    const MutTensorView entry_begin = MakeEntryBegin(m, c.sequences, c.ratio);
    const int64_t entries = entry_begin.Data<int32_t>()[c.sequences.size()];
    return {.kv = c.strided ? both.Columns(0, c.d) : m.Normal(DType::kF32, {step.tokens, c.d}),
            .score = c.strided ? both.Columns(c.d, 2 * c.d) : m.Normal(DType::kF32, {step.tokens, c.d}, 3),
            .ape = m.Normal(DType::kF32, {c.ratio, c.d}),
            .positions = step.positions,
            .seq_begin = step.seq_begin,
            .slot = step.slot,
            .ratio = c.ratio,
            .state = state,
            .entry_begin = entry_begin,
            .entries = m.Poison(c.dtype, {entries + (c.strided ? 0 : 1), c.d})};
  }
  static std::vector<Expected> Reference(const CompressRunning::Args& a) {
    const int64_t d = a.kv.dim(1), capacity = a.state.dim(1);
    Expected state{"state", a.state, ToF64(a.state), {}}, entries{"entries", a.entries, {}, {}};
    state.tolerance.assign(state.value.size(), 0);
    entries.value.assign(size_t(a.entries.dims().Count()), std::nan(""));  // a spare row stays poisoned
    entries.tolerance.assign(entries.value.size(), 0);
    for (int64_t s = 0; s < a.slot.dim(0); ++s) {
      const int64_t slot = a.slot.Data<int32_t>()[s];
      for (int64_t c = 0; c < d; ++c) {
        Softmax block;
        int64_t entry = a.entry_begin.Data<int32_t>()[s];
        for (int64_t i = a.seq_begin.Data<int32_t>()[s]; i < a.seq_begin.Data<int32_t>()[s + 1]; ++i) {
          const int64_t p = a.positions.Data<int32_t>()[i];
          if (p % a.ratio == 0) {
            block = {};
          } else if (i == a.seq_begin.Data<int32_t>()[s]) {
            block.Resume(a.state.Row<float>(slot) + (p - 1) % capacity * 3 * d + c, d);
          }
          const double score = a.score.Row<float>(i)[c], ape = a.ape.Row<float>(p % a.ratio)[c];
          block.Add(RoundTo(DType::kF32, score + ape), a.kv.Row<float>(i)[c]);
          block.Write(state, ((slot * capacity + p % capacity) * 3) * d + c, d);
          if ((p + 1) % a.ratio == 0) Set(entries, entry++ * d + c, RoundTo(a.entries.dtype(), block.Mean()));
        }
      }
    }
    return {state, entries};
  }
  static OpCost Cost(const CompressRunning::Args& a) {
    // Each token is read with its row of ape and leaves a state of three values per channel.
    return {NameOf(a.entries.dtype()), a.kv.dim(0), 6 * TotalBytes({a.kv}) + TotalBytes({a.entries}), 20 * Count(a.kv)};
  }
  static std::vector<std::string_view> Faults() {
    return {"no_ape", "ape_of_row", "never_fresh", "acc_not_rescaled", "mean_of_block"};
  }

 private:
  static void Set(Expected& e, int64_t i, Interval v) {
    e.value[size_t(i)] = (v.low + v.high) / 2;
    e.tolerance[size_t(i)] = (v.high - v.low) / 2;
  }
  // The softmax of one channel over one block so far, from all of its terms: sum and acc relative to max.
  struct Softmax {
    std::vector<double> score, weight, value;
    double max = -INFINITY;

    void Add(double s, double v, double w = 1) {
      score.push_back(s), weight.push_back(w), value.push_back(v);
      max = std::max(max, s);
    }
    // A stored state is one term of weight `sum` and value acc / sum.
    void Resume(const float* state, int64_t d) {
      const double sum = state[d];
      Add(state[0], state[2 * d] / sum, sum);
    }
    // The weight of term i relative to the maximum.
    double Weight(size_t i) const { return weight[i] * std::exp(score[i] - max); }
    // A term is rescaled at each later position; only where the maximum moves does that take an exponential, and the
    // moves add up to no more than the range of scores. Three roundings per exponential that is not 1 (the function to
    // one ulp, the product), two for the term's own.
    double Error() const {
      const double range = max - *std::min_element(score.begin(), score.end());
      int64_t moves = 0;
      double so_far = score[0];
      for (double s : score) {
        if (s > so_far) ++moves, so_far = s;
      }
      return ExpError(range, 0) + double(3 * moves + 2) * Epsilon(DType::kF32) + SumError(int64_t(score.size()), 1);
    }
    Interval Sum() const {
      double sum = 0;
      for (size_t i = 0; i < score.size(); ++i) sum += Weight(i);
      return Around(sum, score.size() == 1 ? 0 : sum * Error());
    }
    Interval Acc() const {
      double acc = 0, magnitude = 0;
      for (size_t i = 0; i < score.size(); ++i) {
        acc += Weight(i) * value[i];
        magnitude += Weight(i) * std::abs(value[i]);
      }
      return Around(acc, score.size() == 1 ? 0 : magnitude * Error());
    }
    Interval Mean() const {
      const Interval acc = Acc(), sum = Sum();
      const double total = (sum.low + sum.high) / 2, mean = (acc.low + acc.high) / 2 / total;
      const double error = (acc.high - acc.low) / 2 / total + std::abs(mean) * (sum.high - sum.low) / 2 / total;
      return Around(mean, error + std::abs(mean) * Epsilon(DType::kF32));
    }
    void Write(Expected& state, int64_t at, int64_t d) const {
      Set(state, at, Around(max, 0));
      Set(state, at + d, Sum());
      Set(state, at + 2 * d, Acc());
    }
  };
};

}  // namespace vexil
