// Attention of one layer: low-rank queries, one shared key-and-value row per position, a sliding window plus
// compressed entries, grouped low-rank output (spec: model, 8).
#include <cmath>

#include "model/v4/forward.h"
#include "ops/block_linear/block_linear.h"
#include "ops/fake_quantize/fake_quantize.h"
#include "ops/head_rms/head_rms.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/scatter_rows/scatter_rows.h"
#include "ops/state_attention/state_attention.h"

namespace vexil::v4 {
namespace {

constexpr int64_t kCacheBlock = 64;  // channels per scale of a rounded cache row

Status Rotate(const ForwardStep& s, int64_t ratio, MutTensorView x, bool inverse) {
  return Run<Rope>(s.ctx, {.x = x, .positions = s.batch.positions, .freqs = s.rope.For(ratio), .inverse = inverse});
}

// 8.1: queries [n, H, dh], normed per head and rotated, in place.
Result<MutTensorView> Queries(const ForwardStep& s, int64_t ratio, MutTensorView q) {
  const MutTensorView by_head = q.Reshape({s.n(), s.config.num_heads, s.config.head_dim});
  VX_TRY(Run<HeadRms>(s.ctx, {.x = by_head, .eps = float(s.config.norm_eps)}));
  VX_TRY(Rotate(s, ratio, by_head, false));
  return by_head;
}

// 8.2: the window rows of this step's tokens [n, dh], in place.
Status WindowRows(const ForwardStep& s, int64_t ratio, const AttentionWeights& w, MutTensorView kv) {
  VX_TRY(Run<RmsNorm>(s.ctx, {.x = kv, .weight = w.kv_norm, .y = kv, .eps = float(s.config.norm_eps)}));
  VX_TRY(Rotate(s, ratio, kv.Reshape({s.n(), 1, s.config.head_dim}), false));
  return RoundCacheRows(s, kv);
}

// 8.3, 8.6, 8.7: attention over the window and the compressed entries. `picks` is empty unless the indexer chose.
Status Attend(const ForwardStep& s, int64_t ratio, const AttentionWeights& w, TensorView picks,
              const StatePool::LayerViews& state, TensorView q, TensorView kv, MutTensorView o) {
  const int64_t max_count = ratio == 0 ? 0 : s.batch.emission(ratio).max_count;
  const int64_t columns = picks.empty() ? max_count : picks.dim(1);
  const int64_t window_rows = state.window.dim(0) * state.window.dim(1);
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
                                               .window_rows = window_rows,
                                               .rows = {}},
                                     .attention = {.q = q,
                                                   .rows = {},
                                                   .step_kv = kv,
                                                   .window_kv = state.window.Reshape({window_rows, s.config.head_dim}),
                                                   .compressed_kv = state.entries,
                                                   .sink = w.sink,
                                                   .scale = float(1.0 / std::sqrt(double(s.config.head_dim))),
                                                   .y = o},
                                     .columns = s.config.window + columns});
}

// The last window_capacity rows of each sequence's chunk go into its ring, after the attention has read it.
Status StoreWindow(const ForwardStep& s, const StatePool::LayerViews& state, TensorView kv) {
  const int64_t capacity = state.window.dim(1);
  const MutTensorView ring = state.window.Reshape({state.window.dim(0) * capacity, s.config.head_dim});
  return Run<ScatterRows>(s.ctx, {.x = kv, .rows = s.batch.window_rows, .pool = ring});
}

// 8.8: grouped low-rank output. wo_a multiplies unrounded activations in every mode.
Status Output(const ForwardStep& s, int64_t ratio, const AttentionWeights& w, MutTensorView o, MutTensorView out) {
  VX_TRY(Rotate(s, ratio, o, true));
  const int64_t groups = s.config.o_groups, rank = s.config.o_lora_rank;
  const int64_t width = s.config.num_heads * s.config.head_dim / groups;
  const MutTensorView flat = o.Reshape({s.n(), groups * width});
  const MutTensorView z = s.Activations({s.n(), groups * rank});
  VX_TRY(Run<BlockLinear>(s.ctx, {.x = flat, .w = w.wo_a, .y = z}));
  return LinearInput(s, z).TimesAlone(w.wo_b, out);
}

}  // namespace

Status RoundCacheRows(const ForwardStep& s, MutTensorView rows) {
  const int64_t columns = s.config.head_dim - s.config.rope_dim;
  if (!s.numerics.quantize_cache || columns == 0) return {};
  return Run<FakeQuantize>(
      s.ctx, {.x = rows.Columns(0, columns), .format = FakeQuantize::Format::kE4M3, .block = kCacheBlock});
}

Status Attention(const ForwardStep& s, int64_t layer, const AttentionWeights& w, LinearInput& x, MutTensorView out) {
  Arena::Scope scope(s.arena());
  const int64_t ratio = s.config.compress_ratios[size_t(layer)];
  const StatePool::LayerViews& state = s.pool.layer(layer);
  VX_ASSIGN(const AttentionInput input, ProjectInput(s, ratio, w, x));
  VX_ASSIGN(const AttentionQueries queries, ProjectQueries(s, w, input));
  VX_ASSIGN(const MutTensorView q, Queries(s, ratio, queries.q));
  const MutTensorView kv = input.kv;
  VX_TRY(WindowRows(s, ratio, w, kv));

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
    VX_ASSIGN(picks, SelectEntries(s, layer, queries.index_q, input.head_weights));
  }

  const MutTensorView o = s.Activations(q.dims());
  VX_TRY(Attend(s, ratio, w, picks, state, q, kv, o));
  VX_TRY(StoreWindow(s, state, kv));
  return Output(s, ratio, w, o, out);
}

}  // namespace vexil::v4
