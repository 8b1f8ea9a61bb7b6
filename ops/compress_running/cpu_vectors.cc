// CompressRunning in vectors: 16 channels at a time, the plain kernel's steps; exp to within one ulp, of which one of
// the two is that of 0 and exactly 1.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/compress_running/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/compress_overlap/channels.h"
#include "ops/compress_running/compress_running.h"
#include "ops/elements.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

// Where the running softmax after one position is stored.
struct SoftmaxState {
  float *max, *sum, *acc;
};

inline SoftmaxState StateAt(const CompressRunning::Args& a, int64_t slot, int64_t p) {
  const int64_t capacity = a.state.dim(1), d = a.state.dim(3);
  float* max = a.state.MutRow<float>(slot) + (p + capacity) % capacity * 3 * d;
  return {max, max + d, max + 2 * d};
}

// Channels [begin, end): the state after position p from the one before it. `after` may be `before`.
void Advance(const CompressRunning::Args& a, int64_t i, int64_t p, const SoftmaxState& before,
             const SoftmaxState& after, int64_t begin, int64_t end) {
  const float *kv = a.kv.Row<float>(i), *score = a.score.Row<float>(i), *ape = a.ape.Row<float>(p % a.ratio);
  const bool fresh = p % a.ratio == 0;
  for (int64_t c = begin; c < end; c += kLanes) {
    const Floats s = Load(score + c) + Load(ape + c), value = Load(kv + c);
    if (fresh) {
      Store(s, after.max + c);
      Store(Set(1), after.sum + c);
      Store(value, after.acc + c);
      continue;
    }
    const Floats old = Load(before.max + c), max = Select(old < s, s, old);
    const Floats keep = Exp(old - max), add = Exp(s - max);
    const Floats sum = Load(before.sum + c) * keep + add, acc = Load(before.acc + c) * keep + value * add;
    Store(max, after.max + c);
    Store(sum, after.sum + c);
    Store(acc, after.acc + c);
  }
}

// All tokens of sequence s, in order, for channels [begin, end).
template <class T>
void CompressChannels(const CompressRunning::Args& a, int64_t s, int64_t begin, int64_t end) {
  const int32_t *positions = a.positions.Data<int32_t>(), *seq_begin = a.seq_begin.Data<int32_t>();
  const int64_t slot = a.slot.Data<int32_t>()[s];
  int64_t row = a.entry_begin.Data<int32_t>()[s];
  for (int64_t i = seq_begin[s]; i < seq_begin[s + 1]; ++i) {
    const int64_t p = positions[i];
    const SoftmaxState after = StateAt(a, slot, p);
    Advance(a, i, p, StateAt(a, slot, p - 1), after, begin, end);
    if ((p + 1) % a.ratio != 0) continue;
    T* entry = a.entries.MutRow<T>(row++);
    for (int64_t c = begin; c < end; c += kLanes) Store(Load(after.acc + c) / Load(after.sum + c), entry + c);
  }
  VX_DCHECK(row == a.entry_begin.Data<int32_t>()[s + 1], "entry_begin disagrees with the positions");
}

Status CompressRunningVectors(const Context& ctx, const CompressRunning::Args& a) {
  WithFloatType(a.entries.dtype(), [&](auto element) {
    ForChannels(ctx, a.slot.dim(0), a.kv.dim(1), VectorGrain(a.kv.dim(0), a.slot.dim(0)),
                [&](int64_t s, int64_t begin, int64_t end) { CompressChannels<decltype(element)>(a, s, begin, end); });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support CompressRunningVectorsSupport(const Context&, const CompressRunning::Args& a) {
  VX_REQUIRE(IsFloat(a.entries.dtype()), "entries must be F32 or BF16");
  VX_REQUIRE(a.kv.dim(1) % 16 == 0, "channels must be a multiple of 16");
  return {};
}

HWY_EXPORT(CompressRunningVectors);
VX_VECTOR_KERNELS(CompressRunning)

}  // namespace vexil::cpu
#endif
