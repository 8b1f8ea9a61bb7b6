// CompressOverlap in vectors: 16 channels at a time, each with its own candidates in the plain kernel's order; exp to
// within one ulp. Work is split by channels, so one token uses all threads.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/compress_overlap/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "ops/compress_overlap/channels.h"
#include "ops/compress_overlap/compress_overlap.h"
#include "ops/elements.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

inline constexpr int64_t kMaxCandidates = 16;

// A sequence's ring: the kv row of a position, which its score row follows.
struct KvRing {
  float* data;
  int64_t capacity, width;
  float* Kv(int64_t p) const { return data + p % capacity * 2 * width; }
};

// Writes channels [begin, end) of token i at position p to the ring.
void StoreRow(const CompressOverlap::Args& a, const KvRing& ring, int64_t i, int64_t p, int64_t begin, int64_t end) {
  const float *kv = a.kv.Row<float>(i), *score = a.score.Row<float>(i), *ape = a.ape.Row<float>(p % a.ratio);
  float *kv_out = ring.Kv(p), *score_out = kv_out + ring.width;
  for (int64_t c = begin; c < end; c += kLanes) {
    Store(Load(kv + c), kv_out + c);
    Store(Load(score + c) + Load(ape + c), score_out + c);
  }
}

// Channels [begin, end) of the entry that position p completes.
template <class T>
void EmitEntry(const CompressOverlap::Args& a, const KvRing& ring, int64_t p, int64_t begin, int64_t end, T* entry) {
  const int64_t d = a.entries.dim(1), own = p - a.ratio + 1, first = std::max<int64_t>(own - a.ratio, 0);
  const int64_t count = p - first + 1;
  for (int64_t c = begin; c < end; c += kLanes) {
    const float* value[kMaxCandidates];
    Floats weight[kMaxCandidates];
    for (int64_t i = 0; i < count; ++i) value[i] = ring.Kv(first + i) + c + (first + i >= own ? d : 0);
    Floats max = Load(value[0] + ring.width);
    for (int64_t i = 1; i < count; ++i) {
      const Floats score = Load(value[i] + ring.width);
      max = Select(max < score, score, max);
    }
    Floats sum = Zero(), pooled = Zero();
    for (int64_t i = 0; i < count; ++i) {
      weight[i] = Exp(Load(value[i] + ring.width) - max);
      sum = sum + weight[i];
    }
    for (int64_t i = 0; i < count; ++i) pooled = pooled + weight[i] / sum * Load(value[i]);
    Store(pooled, entry + c);
  }
}

// All tokens of sequence s, in order, for entry channels [begin, end) and the two halves that feed them.
template <class T>
void CompressChannels(const CompressOverlap::Args& a, int64_t s, int64_t begin, int64_t end) {
  const int32_t *positions = a.positions.Data<int32_t>(), *seq_begin = a.seq_begin.Data<int32_t>();
  const int64_t d = a.entries.dim(1);
  const KvRing ring{a.ring.MutRow<float>(a.slot.Data<int32_t>()[s]), a.ring.dim(1), a.ring.dim(3)};
  int64_t entry = a.entry_begin.Data<int32_t>()[s];
  for (int64_t i = seq_begin[s]; i < seq_begin[s + 1]; ++i) {
    const int64_t p = positions[i];
    StoreRow(a, ring, i, p, begin, end);
    StoreRow(a, ring, i, p, d + begin, d + end);
    if ((p + 1) % a.ratio == 0) EmitEntry(a, ring, p, begin, end, a.entries.MutRow<T>(entry++));
  }
  VX_DCHECK(entry == a.entry_begin.Data<int32_t>()[s + 1], "entry_begin disagrees with the positions");
}

Status CompressOverlapVectors(const Context& ctx, const CompressOverlap::Args& a) {
  WithFloatType(a.entries.dtype(), [&](auto element) {
    ForChannels(ctx, a.slot.dim(0), a.entries.dim(1), VectorGrain(a.kv.dim(0), a.slot.dim(0)),
                [&](int64_t s, int64_t begin, int64_t end) { CompressChannels<decltype(element)>(a, s, begin, end); });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support CompressOverlapVectorsSupport(const Context&, const CompressOverlap::Args& a) {
  VX_REQUIRE(IsFloat(a.entries.dtype()), "entries must be F32 or BF16");
  VX_REQUIRE(a.entries.dim(1) % 16 == 0, "channels must be a multiple of 16");
  VX_REQUIRE(a.ratio <= 8, "ratios up to 8");
  return {};
}

HWY_EXPORT(CompressOverlapVectors);
VX_VECTOR_KERNELS(CompressOverlap)

}  // namespace vexil::cpu
#endif
