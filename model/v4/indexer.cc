// The indexer: scores every visible compressed entry of a ratio-4 layer and keeps the best (spec: model, 8.5).
#include <algorithm>

#include "model/v4/forward.h"
#include "ops/finish_rows/finish_rows.h"
#include "ops/indexer_top_k/indexer_top_k.h"

namespace vexil::v4 {
namespace {
constexpr int64_t kIndexBlock = 32;  // channels per scale of a rounded index vector
}  // namespace

void RoundIndexVectors(const ForwardStep& s, FinishRows::Set& rows) {
  rows.hadamard = s.numerics.quantize_cache;
  rows.format = FakeQuantize::Format::kE2M1;
  rows.block = kIndexBlock;
  rows.rounded = s.numerics.quantize_cache ? s.config.index_head_dim : 0;
}

Result<TensorView> SelectEntries(const ForwardStep& s, int64_t layer, TensorView q, TensorView head_weights) {
  const StepTensors::Emission& emission = s.batch.emission(kOverlapRatio);
  const int64_t candidates = emission.max_count;
  const MutTensorView picks = s.NewI32({s.n(), std::min(s.config.index_topk, candidates)});
  Arena::Scope scope(s.arena());
  VX_TRY(Run<IndexerTopK>(s.ctx, {.q = q,
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
