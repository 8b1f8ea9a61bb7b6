#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "ops/argmax/row.h"
#include "ops/fault.h"
#include "ops/sample/damaged_row.h"
#include "ops/sample/sample.h"
#include "ops/top_k/rank_key.h"

namespace vexil::cpu {

Support SamplePlainSupports(const Context&, const Sample::Args&) { return {}; }

namespace {

constexpr float kMinTemperature = 1e-5f;

// One row as unnormalised probabilities: 1 for the largest logit.
struct Row {
  const float* logits;
  int64_t vocab;
  double max, temperature;

  double Weight(int64_t v) const { return std::exp((double(logits[v]) - max) / temperature); }
};

struct Filters {
  int64_t top_k;  // the vocabulary size when off
  double top_p, min_p;
  bool ranked;  // tokens are needed in descending order
};

// Tokens that survived the filters, in the order of the cumulative sum.
struct Kept {
  std::vector<int32_t> tokens;
  std::vector<double> weights;
  void Add(int32_t token, double weight) {
    tokens.push_back(token);
    weights.push_back(weight);
  }
};

Filters FiltersOf(const Sample::Args& a, int64_t i) {
  const int64_t vocab = a.logits.dim(1), k = a.top_k.Data<int32_t>()[i];
  const float p = a.top_p.Data<float>()[i], min_p = a.min_p.Data<float>()[i];
  const bool by_k = k > 0 && k < vocab, by_p = p < 1;
  // min_p above 1 would drop the best token too.
  return {by_k ? k + (VX_FAULT("top_k_plus_one") ? 1 : 0) : vocab, by_p ? double(p) : 2.0,
          VX_FAULT("ignored_min_p") ? 0.0 : std::min(double(min_p), 1.0), by_k || by_p};
}

Kept KeepInIndexOrder(const Row& row, const Filters& f) {
  Kept kept;
  for (int64_t v = 0; v < row.vocab; ++v) {
    const double w = row.Weight(v);
    if (w > 0 && w >= f.min_p) kept.Add(int32_t(v), w);
  }
  return kept;
}

// A heap hands out the tokens in descending order, so that a short nucleus needs no full sort.
Kept KeepByRank(const Row& row, const Filters& f) {
  std::vector<uint64_t> heap(static_cast<size_t>(row.vocab));
  for (int64_t v = 0; v < row.vocab; ++v) heap[size_t(v)] = RankKey(row.logits[v], uint32_t(v));
  if (f.top_k < row.vocab) {
    std::nth_element(heap.begin(), heap.begin() + f.top_k, heap.end());
    heap.resize(size_t(f.top_k));
  }
  double mass = 0;
  for (uint64_t key : heap) mass += row.Weight(RankedIndex(key));
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  Kept kept;
  double cumulative = 0;
  while (!heap.empty()) {
    const int32_t token = RankedIndex(heap.front());
    const double w = row.Weight(token);
    if (!(w > 0) || w < f.min_p) break;
    cumulative += w;
    const bool crosses = cumulative >= f.top_p * mass;
    if (crosses && VX_FAULT("crossing_token_dropped") && !kept.tokens.empty()) break;
    kept.Add(token, w);
    if (crosses) break;
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
  }
  return kept;
}

// The first token whose cumulative probability exceeds `uniform`.
int32_t Draw(const Kept& kept, double uniform) {
  double total = 0;
  for (double w : kept.weights) total += w;
  const double target = VX_FAULT("no_renormalisation") ? uniform : uniform * total;
  double cumulative = 0;
  for (size_t i = 0; i < kept.tokens.size(); ++i) {
    cumulative += kept.weights[i];
    if (cumulative > target) return kept.tokens[i];
  }
  return kept.tokens.back();
}

int32_t SampleRow(const Sample::Args& a, int64_t i) {
  const float* logits = a.logits.Row<float>(i);
  const int64_t vocab = a.logits.dim(1);
  const int32_t best = ArgmaxOfRow(logits, vocab);
  if (IsDamaged(logits, vocab, best)) return VX_FAULT("damaged_row_answered") ? best : Sample::kNoToken;
  const float temperature = a.temperature.Data<float>()[i];
  if (!(temperature > 0)) return best;
  const Row row{logits, vocab, logits[best], VX_FAULT("no_temperature") ? 1.0 : std::max(temperature, kMinTemperature)};
  const Filters filters = FiltersOf(a, i);
  const Kept kept = filters.ranked ? KeepByRank(row, filters) : KeepInIndexOrder(row, filters);
  return Draw(kept, a.uniform.Data<float>()[i]);
}

}  // namespace

Status SamplePlain(const Context& ctx, const Sample::Args& a) {
  ctx.For(a.logits.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) a.token.MutData<int32_t>()[i] = SampleRow(a, i);
  });
  return {};
}

}  // namespace vexil::cpu
