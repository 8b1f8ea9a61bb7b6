// The indexer: scores every visible compressed entry of a ratio-4 layer and keeps the best (spec: model, 8.5).
#include <algorithm>
#include <cmath>

#include "model/v4/forward.h"
#include "ops/fake_quantize/fake_quantize.h"
#include "ops/hadamard/hadamard.h"
#include "ops/indexer_scores/indexer_scores.h"
#include "ops/rope/rope.h"
#include "ops/scale/scale.h"
#include "ops/top_k/top_k.h"

namespace vexil::v4 {
namespace {

// Score matrices are made for as many tokens at a time as fit into this many values.
constexpr int64_t kMaxScores = int64_t(1) << 24;

Result<MutTensorView> IndexQueries(const ForwardStep& s, const IndexerWeights& w, LinearInput& q_low) {
  const int64_t heads = s.config.index_heads, d = s.config.index_head_dim;
  const MutTensorView q = s.Activations({s.n(), heads * d});
  VX_TRY(q_low.Times(w.wq_b, q));
  VX_TRY(Run<Rope>(s.ctx, {.x = q.Reshape({s.n(), heads, d}),
                           .positions = s.batch.positions,
                           .freqs = s.rope.For(kOverlapRatio),
                           .inverse = false}));
  if (s.numerics.quantize_cache) {
    const MutTensorView rows = q.Reshape({s.n() * heads, d});
    VX_TRY(Run<Hadamard>(s.ctx, {.x = rows}));
    VX_TRY(Run<FakeQuantize>(s.ctx, {.x = rows, .format = FakeQuantize::Format::kE2M1, .block = 32}));
  }
  return q.Reshape({s.n(), heads, d});
}

Result<MutTensorView> HeadWeights(const ForwardStep& s, const IndexerWeights& w, LinearInput& x) {
  const MutTensorView weights = s.Activations({s.n(), s.config.index_heads});
  VX_TRY(x.Times(w.weights_proj, weights));
  const double factor = 1.0 / std::sqrt(double(s.config.index_head_dim)) / std::sqrt(double(s.config.index_heads));
  VX_TRY(Run<Scale>(s.ctx, {.x = weights, .factor = float(factor), .y = weights}));
  return weights;
}

}  // namespace

Result<TensorView> SelectEntries(const ForwardStep& s, int64_t layer, const IndexerWeights& w, LinearInput& x,
                                 LinearInput& q_low) {
  const StepTensors::Emission& emission = s.batch.emission(kOverlapRatio);
  const int64_t candidates = emission.max_count;
  const MutTensorView picks = s.NewI32({s.n(), std::min(s.config.index_topk, candidates)});
  Arena::Scope scope(s.arena());
  VX_ASSIGN(const MutTensorView q, IndexQueries(s, w, q_low));
  VX_ASSIGN(const MutTensorView weights, HeadWeights(s, w, x));
  const TensorView count = emission.count, seq = s.batch.seq;
  const int64_t tokens = std::max<int64_t>(1, std::min(s.n(), kMaxScores / candidates));
  const MutTensorView scores = s.NewF32({tokens, candidates});
  for (int64_t begin = 0; begin < s.n(); begin += tokens) {
    const int64_t end = std::min(begin + tokens, s.n());
    const MutTensorView part = scores.Rows(0, end - begin);
    VX_TRY(Run<IndexerScores>(s.ctx, {.q = q.Rows(begin, end),
                                      .w = weights.Rows(begin, end),
                                      .keys = s.pool.layer(layer).index_keys,
                                      .seq = seq.Rows(begin, end),
                                      .block_table = s.batch.block_table,
                                      .count = count.Rows(begin, end),
                                      .entries_per_block = kPageTokens / kOverlapRatio,
                                      .scores = part}));
    VX_TRY(Run<TopK>(s.ctx, {.scores = part, .count = count.Rows(begin, end), .indices = picks.Rows(begin, end)}));
  }
  s.Observe(layer, "index_picks", picks);
  return TensorView(picks);
}

}  // namespace vexil::v4
