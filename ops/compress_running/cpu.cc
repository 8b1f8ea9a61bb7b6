#include <algorithm>
#include <cmath>

#include "ops/compress_overlap/channels.h"
#include "ops/compress_running/compress_running.h"
#include "ops/elements.h"
#include "ops/fault.h"

namespace vexil::cpu {

Support CompressRunningPlainSupports(const Context&, const CompressRunning::Args& a) {
  VX_REQUIRE(IsFloat(a.entries.dtype()), "entries must be F32 or BF16");
  return {};
}

namespace {

// Where the running softmax after one position is stored.
struct State {
  float *max, *sum, *acc;
};

State StateAt(const CompressRunning::Args& a, int64_t slot, int64_t p) {
  const int64_t capacity = a.state.dim(1), d = a.state.dim(3);
  float* max = a.state.MutRow<float>(slot) + (p + capacity) % capacity * 3 * d;
  return {max, max + d, max + 2 * d};
}

// Channels [begin, end): the state after position p from the one before it. `after` may be `before`.
void Advance(const CompressRunning::Args& a, int64_t i, int64_t p, State before, State after, int64_t begin,
             int64_t end) {
  const float* kv = a.kv.Row<float>(i);
  const float* score = a.score.Row<float>(i);
  const float* ape = a.ape.Row<float>((VX_FAULT("ape_of_row") ? i : p) % a.ratio);
  const bool fresh = p % a.ratio == 0 && !VX_FAULT("never_fresh");
  for (int64_t c = begin; c < end; ++c) {
    const float s = score[c] + (VX_FAULT("no_ape") ? 0.0f : ape[c]);
    if (fresh) {
      after.max[c] = s;
      after.sum[c] = 1;
      after.acc[c] = kv[c];
      continue;
    }
    const float max = std::max(before.max[c], s);
    const float keep = std::exp(before.max[c] - max), add = std::exp(s - max);
    after.max[c] = max;
    after.sum[c] = before.sum[c] * keep + add;
    after.acc[c] = before.acc[c] * (VX_FAULT("acc_not_rescaled") ? 1.0f : keep) + kv[c] * add;
  }
}

// All tokens of sequence s, in order, for channels [begin, end).
template <class T>
void CompressChannels(const CompressRunning::Args& a, int64_t s, int64_t begin, int64_t end) {
  const int32_t* positions = a.positions.Data<int32_t>();
  const int32_t* seq_begin = a.seq_begin.Data<int32_t>();
  const int64_t slot = a.slot.Data<int32_t>()[s];
  int64_t row = a.entry_begin.Data<int32_t>()[s];
  for (int64_t i = seq_begin[s]; i < seq_begin[s + 1]; ++i) {
    const int64_t p = positions[i];
    const State after = StateAt(a, slot, p);
    Advance(a, i, p, StateAt(a, slot, p - 1), after, begin, end);
    if ((p + 1) % a.ratio != 0) continue;
    T* entry = a.entries.MutRow<T>(row++);
    for (int64_t c = begin; c < end; ++c) {
      entry[c] = FromFloat<T>(after.acc[c] / (VX_FAULT("mean_of_block") ? float(a.ratio) : after.sum[c]));
    }
  }
  VX_DCHECK(row == a.entry_begin.Data<int32_t>()[s + 1], "entry_begin disagrees with the positions");
}

}  // namespace

Status CompressRunningPlain(const Context& ctx, const CompressRunning::Args& a) {
  WithFloatType(a.entries.dtype(), [&](auto element) {
    ForChannels(ctx, a.slot.dim(0), a.kv.dim(1), 1,
                [&](int64_t s, int64_t begin, int64_t end) { CompressChannels<decltype(element)>(a, s, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
