// Compressors: pool the tokens of a block into one entry by a learned softmax (spec: model, 8.4).
#include "model/v4/forward.h"
#include "ops/compress_overlap/compress_overlap.h"
#include "ops/compress_running/compress_running.h"
#include "ops/fake_quantize/fake_quantize.h"
#include "ops/hadamard/hadamard.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/scatter_rows/scatter_rows.h"

namespace vexil::v4 {
namespace {

// Pools whatever blocks the step completes into entries [M, d] and updates the tail.
Status Pool(const ForwardStep& s, const StepTensors::Emission& emission, const CompressorWeights& w,
            const CompressorState& state, const CompressorInput& input, MutTensorView entries) {
  if (emission.ratio == kOverlapRatio) {
    return Run<CompressOverlap>(s.ctx, {.kv = input.kv,
                                        .score = input.score,
                                        .ape = w.ape,
                                        .positions = s.batch.positions,
                                        .seq_begin = s.batch.seq_begin,
                                        .slot = s.batch.slot,
                                        .ratio = emission.ratio,
                                        .ring = state.overlap,
                                        .entry_begin = emission.entry_begin,
                                        .entries = entries});
  }
  return Run<CompressRunning>(s.ctx, {.kv = input.kv,
                                      .score = input.score,
                                      .ape = w.ape,
                                      .positions = s.batch.positions,
                                      .seq_begin = s.batch.seq_begin,
                                      .slot = s.batch.slot,
                                      .ratio = emission.ratio,
                                      .state = state.running,
                                      .entry_begin = emission.entry_begin,
                                      .entries = entries});
}

// Indexer keys are rotated by a Hadamard matrix, which spreads outliers, and rounded to E2M1.
Status RoundIndexKeys(const ForwardStep& s, MutTensorView keys) {
  if (!s.numerics.quantize_cache) return {};
  VX_TRY(Run<Hadamard>(s.ctx, {.x = keys}));
  return Run<FakeQuantize>(s.ctx, {.x = keys, .format = FakeQuantize::Format::kE2M1, .block = 32});
}

}  // namespace

Status Compress(const ForwardStep& s, int64_t ratio, const CompressorWeights& w, EntryKind kind,
                const CompressorState& state, const CompressorInput& input) {
  Arena::Scope scope(s.arena());
  const StepTensors::Emission& emission = s.batch.emission(ratio);
  const int64_t count = emission.rows.dim(0), d = w.norm.dim(0);
  const MutTensorView entries = s.Activations({count, d});
  VX_TRY(Pool(s, emission, w, state, input, entries));
  if (count == 0) return {};
  VX_TRY(Run<RmsNorm>(s.ctx, {.x = entries, .weight = w.norm, .y = entries, .eps = float(s.config.norm_eps)}));
  VX_TRY(Run<Rope>(s.ctx, {.x = entries.Reshape({count, 1, d}),
                           .positions = emission.positions,
                           .freqs = s.rope.For(ratio),
                           .inverse = false}));
  VX_TRY(kind == EntryKind::kAttention ? RoundCacheRows(s, entries) : RoundIndexKeys(s, entries));
  return Run<ScatterRows>(s.ctx, {.x = entries, .rows = emission.rows, .pool = state.entries});
}

}  // namespace vexil::v4
