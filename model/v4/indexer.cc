// The indexer: scores every visible compressed entry of a ratio-4 layer and keeps the best (spec: model, 8.5).
#include <algorithm>

#include "model/v4/forward.h"
#include "ops/fake_quantize/fake_quantize.h"
#include "ops/hadamard/hadamard.h"
#include "ops/indexer_top_k/indexer_top_k.h"
#include "ops/rope/rope.h"

namespace vexil::v4 {
namespace {

// [n, Hi, di], rotated and rounded, in place.
Result<MutTensorView> IndexQueries(const ForwardStep& s, MutTensorView q) {
  const int64_t heads = s.config.index_heads, d = s.config.index_head_dim;
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

}  // namespace

Result<TensorView> SelectEntries(const ForwardStep& s, int64_t layer, MutTensorView q, MutTensorView head_weights) {
  const StepTensors::Emission& emission = s.batch.emission(kOverlapRatio);
  const int64_t candidates = emission.max_count;
  const MutTensorView picks = s.NewI32({s.n(), std::min(s.config.index_topk, candidates)});
  Arena::Scope scope(s.arena());
  VX_ASSIGN(const MutTensorView by_head, IndexQueries(s, q));
  VX_TRY(Run<IndexerTopK>(s.ctx, {.q = by_head,
                                  .w = head_weights,
                                  .keys = s.pool.layer(layer).index_keys,
                                  .seq = s.batch.seq,
                                  .block_table = s.batch.block_table,
                                  .count = emission.count,
                                  .entries_per_block = kPageTokens / kOverlapRatio,
                                  .max_count = candidates,
                                  .indices = picks}));
  s.Observe(layer, "index_picks", picks);
  return TensorView(picks);
}

}  // namespace vexil::v4
