// Attention of one layer: low-rank queries, one shared key-and-value row per position, a sliding window plus
// compressed entries, grouped low-rank output (spec: model, 8).
#include <cmath>

#include "model/v4/forward.h"
#include "ops/block_linear/block_linear.h"
#include "ops/finish_rows/finish_rows.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/scatter_rows/scatter_rows.h"
#include "ops/state_attention/state_attention.h"

namespace vexil::v4 {
namespace {

constexpr int64_t kCacheBlock = 64;  // channels per scale of a rounded cache row

MutTensorView RingOf(const ForwardStep& s, const StatePool::LayerViews& state) {
  return state.window.Reshape({state.window.dim(0) * state.window.dim(1), s.config.head_dim});
}

// Whether window rows may be stored before the attention has read the rings: when no chunk is so long that its last
// token takes the place of a row that its first one reads. A chunk has n - S + 1 tokens at most.
bool StoresEarly(const ForwardStep& s, const StatePool::LayerViews& state) {
  return s.n() - s.batch.slot.dim(0) <= state.window.dim(1) - s.config.window;
}

// 8.1, 8.2, 8.5: queries are normed per head and rotated, window rows normed, rotated, rounded, and stored if they may
// be, the indexer's queries (or none) rotated and rounded.
Status FinishInputs(const ForwardStep& s, int64_t ratio, const AttentionWeights& w, const StatePool::LayerViews& state,
                    MutTensorView q, MutTensorView kv, MutTensorView index_q) {
  const FinishRows::Set queries{.x = q,
                                .norm = FinishRows::Norm::kHead,
                                .eps = float(s.config.norm_eps),
                                .positions = s.batch.positions,
                                .freqs = s.rope.For(ratio)};
  FinishRows::Set window{.x = kv.SplitColumns(s.config.head_dim),
                         .norm = FinishRows::Norm::kWeighted,
                         .weight = w.kv_norm,
                         .eps = float(s.config.norm_eps),
                         .positions = s.batch.positions,
                         .freqs = s.rope.For(ratio)};
  RoundCacheRows(s, window);
  if (StoresEarly(s, state)) window.rows = s.batch.window_rows, window.pool = RingOf(s, state);
  FinishRows::Set index;
  if (!index_q.empty()) {
    index = {.x = index_q, .positions = s.batch.positions, .freqs = s.rope.For(ratio)};
    RoundIndexVectors(s, index);
  }
  return Run<FinishRows>(s.ctx, {.sets = {queries, window, index}});
}

// 8.3, 8.6, 8.7: attention over the window and the compressed entries. `picks` is empty unless the indexer chose.
Status Attend(const ForwardStep& s, int64_t ratio, const AttentionWeights& w, TensorView picks,
              const StatePool::LayerViews& state, TensorView q, TensorView kv, MutTensorView o) {
  const int64_t max_count = ratio == 0 ? 0 : s.batch.emission(ratio).max_count;
  const int64_t columns = picks.empty() ? max_count : picks.dim(1);
  const MutTensorView ring = RingOf(s, state);
  return Run<StateAttention>(s.ctx, {.lists = {.positions = s.batch.positions,
                                               .seq = s.batch.seq,
                                               .seq_begin = s.batch.seq_begin,
                                               .slot = s.batch.slot,
                                               .block_table = s.batch.block_table,
                                               .window = s.config.window,
                                               .window_capacity = state.window.dim(1),
                                               .entries_per_block = columns == 0 ? 0 : kPageTokens / ratio,
                                               .ratio = ratio,
                                               .picks = picks,
                                               .step_rows = s.n(),
                                               .window_rows = ring.dim(0),
                                               .rows = {}},
                                     .attention = {.q = q,
                                                   .rows = {},
                                                   .step_kv = kv,
                                                   .window_kv = ring,
                                                   .compressed_kv = state.entries,
                                                   .sink = w.sink,
                                                   .scale = float(1.0 / std::sqrt(double(s.config.head_dim))),
                                                   .y = o},
                                     .columns = s.config.window + columns});
}

// The last window_capacity rows of each sequence's chunk go into its ring, after the attention has read it.
Status StoreWindow(const ForwardStep& s, const StatePool::LayerViews& state, TensorView kv) {
  if (StoresEarly(s, state)) return {};
  return Run<ScatterRows>(s.ctx, {.x = kv, .rows = s.batch.window_rows, .pool = RingOf(s, state)});
}

// 8.8: grouped low-rank output. wo_a multiplies unrounded activations in every mode.
Status Output(const ForwardStep& s, int64_t ratio, const AttentionWeights& w, MutTensorView o, MutTensorView out) {
  VX_TRY(Run<Rope>(s.ctx, {.x = o, .positions = s.batch.positions, .freqs = s.rope.For(ratio), .inverse = true}));
  const int64_t groups = s.config.o_groups, rank = s.config.o_lora_rank;
  const int64_t width = s.config.num_heads * s.config.head_dim / groups;
  const MutTensorView flat = o.Reshape({s.n(), groups * width});
  const MutTensorView z = s.Activations({s.n(), groups * rank});
  VX_TRY(Run<BlockLinear>(s.ctx, {.x = flat, .w = w.wo_a, .y = z}));
  return LinearInput(s, z).TimesAlone(w.wo_b, out);
}

}  // namespace

void RoundCacheRows(const ForwardStep& s, FinishRows::Set& rows) {
  rows.format = FakeQuantize::Format::kE4M3;
  rows.block = kCacheBlock;
  rows.rounded = s.numerics.quantize_cache ? s.config.head_dim - s.config.rope_dim : 0;
}

Status Attention(const ForwardStep& s, int64_t layer, const AttentionWeights& w, LinearInput& x, MutTensorView out) {
  Arena::Scope scope(s.arena());
  const int64_t ratio = s.config.compress_ratios[size_t(layer)];
  const StatePool::LayerViews& state = s.pool.layer(layer);
  VX_ASSIGN(const AttentionInput input, ProjectInput(s, ratio, w, x));
  VX_ASSIGN(const AttentionQueries queries, ProjectQueries(s, w, input));
  const MutTensorView q = queries.q.SplitColumns(s.config.head_dim), kv = input.kv;
  MutTensorView index_q;
  if (!queries.index_q.empty()) index_q = queries.index_q.SplitColumns(s.config.index_head_dim);
  VX_TRY(FinishInputs(s, ratio, w, state, q, kv, index_q));

  TensorView picks;
  if (w.compressor) {
    const CompressorState tail = {state.overlap, state.running, state.entries};
    VX_TRY(Compress(s, ratio, *w.compressor, EntryKind::kAttention, tail, input.compressor));
  }
  if (w.indexer) {
    const CompressorState tail = {state.index_overlap, {}, state.index_keys};
    VX_TRY(Compress(s, ratio, w.indexer->compressor, EntryKind::kIndexKey, tail, input.index_compressor));
  }
  if (!input.head_weights.empty()) {
    VX_ASSIGN(picks, SelectEntries(s, layer, index_q, input.head_weights));
  }

  const MutTensorView o = s.Activations(q.dims());
  VX_TRY(Attend(s, ratio, w, picks, state, q, kv, o));
  VX_TRY(StoreWindow(s, state, kv));
  return Output(s, ratio, w, o, out);
}

}  // namespace vexil::v4
