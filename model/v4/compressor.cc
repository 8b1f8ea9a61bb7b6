// Compressors: pool the tokens of a block into one entry by a learned softmax (spec: model, 8.4).
#include "model/v4/forward.h"
#include "ops/compress_overlap/compress_overlap.h"
#include "ops/compress_running/compress_running.h"
#include "ops/finish_rows/finish_rows.h"

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

}  // namespace

Status Compress(const ForwardStep& s, int64_t ratio, const CompressorWeights& w, EntryKind kind,
                const CompressorState& state, const CompressorInput& input) {
  Arena::Scope scope(s.arena());
  const StepTensors::Emission& emission = s.batch.emission(ratio);
  const int64_t count = emission.rows.dim(0), d = w.norm.dim(0);
  const MutTensorView entries = s.Activations({count, d});
  VX_TRY(Pool(s, emission, w, state, input, entries));
  if (count == 0) return {};
  FinishRows::Set set{.x = entries.SplitColumns(d),
                      .norm = FinishRows::Norm::kWeighted,
                      .weight = w.norm,
                      .eps = float(s.config.norm_eps),
                      .positions = emission.positions,
                      .freqs = s.rope.For(ratio),
                      .rows = emission.rows,
                      .pool = state.entries};
  kind == EntryKind::kAttention ? RoundCacheRows(s, set) : RoundIndexVectors(s, set);
  return Run<FinishRows>(s.ctx, {.sets = {set}});
}

}  // namespace vexil::v4
