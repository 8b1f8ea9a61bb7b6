#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/compress_overlap/channels.h"
#include "ops/compress_overlap/compress_overlap.h"
#include "ops/elements.h"
#include "ops/fault.h"

namespace vexil::cpu {

Support CompressOverlapPlainSupports(const Context&, const CompressOverlap::Args& a) {
  VX_REQUIRE(IsFloat(a.entries.dtype()), "entries must be F32 or BF16");
  return {};
}

namespace {

// One sequence's ring: the kv and score rows by position.
class Ring {
 public:
  Ring(const CompressOverlap::Args& a, int64_t slot)
      : capacity_(a.ring.dim(1)), width_(a.ring.dim(3)), data_(a.ring.MutRow<float>(slot)) {}
  float* Kv(int64_t p) const { return data_ + p % capacity_ * 2 * width_; }
  float* Score(int64_t p) const { return Kv(p) + width_; }

 private:
  int64_t capacity_, width_;
  float* data_;
};

// Writes channels [begin, end) of token i at position p to the ring.
void Store(const CompressOverlap::Args& a, const Ring& ring, int64_t i, int64_t p, int64_t begin, int64_t end) {
  const float* kv = a.kv.Row<float>(i);
  const float* score = a.score.Row<float>(i);
  const float* ape = a.ape.Row<float>((VX_FAULT("ape_of_row") ? i : p) % a.ratio);
  float* kv_out = ring.Kv(p);
  float* score_out = ring.Score(p);
  for (int64_t c = begin; c < end; ++c) {
    kv_out[c] = kv[c];
    score_out[c] = score[c] + (VX_FAULT("no_ape") ? 0.0f : ape[c]);
  }
}

// Softmax-weighted sum of the candidates, one value and one score each.
float Pool(const std::vector<float>& value, const std::vector<float>& score, std::vector<float>& weight) {
  const float max = *std::max_element(score.begin(), score.end());
  float sum = 0, pooled = 0;
  for (size_t i = 0; i < score.size(); ++i) {
    weight[i] = std::exp(score[i] - max);
    sum += weight[i];
  }
  for (size_t i = 0; i < score.size(); ++i) pooled += weight[i] / sum * value[i];
  return pooled;
}

// Channels [begin, end) of the entry that position p completes.
template <class T>
void Emit(const CompressOverlap::Args& a, const Ring& ring, int64_t p, int64_t begin, int64_t end, T* entry) {
  const int64_t d = a.entries.dim(1), own = p - a.ratio + 1;
  const bool has_previous = own > 0 || VX_FAULT("previous_of_first");
  const int64_t first = VX_FAULT("own_block_only") || !has_previous ? own : own - a.ratio;
  const size_t candidates = size_t(p - first + 1);
  std::vector<float> value(candidates), score(candidates), weight(candidates);
  for (int64_t c = begin; c < end; ++c) {
    for (int64_t t = first; t <= p; ++t) {
      const bool second_half = (t >= own) != VX_FAULT("swapped_halves");
      const int64_t channel = second_half ? d + c : c;
      const int64_t stored = t < 0 ? t + 2 * a.ratio : t;
      value[size_t(t - first)] = ring.Kv(stored)[channel];
      score[size_t(t - first)] = ring.Score(stored)[channel];
    }
    entry[c] = FromFloat<T>(Pool(value, score, weight));
  }
}

// All tokens of sequence s, in order, for entry channels [begin, end) and the two halves that feed them.
template <class T>
void CompressChannels(const CompressOverlap::Args& a, int64_t s, int64_t begin, int64_t end) {
  const int32_t* positions = a.positions.Data<int32_t>();
  const int32_t* seq_begin = a.seq_begin.Data<int32_t>();
  const int64_t d = a.entries.dim(1);
  const Ring ring(a, a.slot.Data<int32_t>()[s]);
  int64_t entry = a.entry_begin.Data<int32_t>()[s];
  for (int64_t i = seq_begin[s]; i < seq_begin[s + 1]; ++i) {
    const int64_t p = positions[i];
    Store(a, ring, i, p, begin, end);
    Store(a, ring, i, p, d + begin, d + end);
    if ((p + 1) % a.ratio == 0) Emit(a, ring, p, begin, end, a.entries.MutRow<T>(entry++));
  }
  VX_DCHECK(entry == a.entry_begin.Data<int32_t>()[s + 1], "entry_begin disagrees with the positions");
}

}  // namespace

Status CompressOverlapPlain(const Context& ctx, const CompressOverlap::Args& a) {
  WithFloatType(a.entries.dtype(), [&](auto element) {
    ForChannels(ctx, a.slot.dim(0), a.entries.dim(1), 1,
                [&](int64_t s, int64_t begin, int64_t end) { CompressChannels<decltype(element)>(a, s, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
