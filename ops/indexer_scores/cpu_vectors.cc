// Indexer scores in vectors, for few heads and for processors without AMX.
//
// Work is split by tokens and ranges of entries. Sixteen keys become f32 once, an entry per lane; a head's dot products
// with them keep 16 partial sums each, in ascending order of channels (fused), which are added by pairwise halving. The
// head sum runs in the same lanes, heads ascending. Bytes moved: the keys once per token.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/indexer_scores/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "ops/elements.h"
#include "ops/indexer_scores/indexer_scores.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kEntries = 256;  // per piece of work
constexpr int64_t kMaxChannels = 256;
// Heads whose dot products share the loaded keys: eight chains of sums hide the latency of an addition.
constexpr int64_t kGroup = 8 / int64_t(kParts) > 0 ? 8 / int64_t(kParts) : 1;

// A turn of the 256 elements' indices by two bits, the lowest to the top; two turns transpose 16 rows of 16.
HWY_INLINE void Turn(const float* from, float* to) {
  constexpr int64_t kQuarter = kLanes * kLanes / 4;
  for (int64_t i = 0; i < kQuarter; i += int64_t(kPartLanes)) {
    hn::Vec<D> a, b, c, d;
    hn::LoadInterleaved4(D(), from + 4 * i, a, b, c, d);
    hn::StoreU(a, D(), to + i);
    hn::StoreU(b, D(), to + kQuarter + i);
    hn::StoreU(c, D(), to + 2 * kQuarter + i);
    hn::StoreU(d, D(), to + 3 * kQuarter + i);
  }
}

// Keys of entries [begin, begin + 16) of a sequence as f32, [d][entry]; beyond `end` the last one again.
void LoadKeys(const IndexerScores::Args& a, const int32_t* pages, int64_t begin, int64_t end, float* keys) {
  const int64_t block = a.entries_per_block, d = a.q.dim(2);
  const BF16* rows[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    const int64_t j = std::min(begin + i, end - 1);
    rows[i] = a.keys.Row<BF16>(pages[j / block] * block + j % block);
  }
  alignas(64) float square[kLanes * kLanes], turned[kLanes * kLanes];
  for (int64_t c = 0; c < d; c += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) Store(Load(rows[i] + c), square + i * kLanes);
    Turn(square, turned);
    Turn(turned, keys + c * kLanes);
  }
}

struct GroupSums {
  HWY_INLINE GroupSums() {}  // as that of Pack
  Floats of_head[kGroup];
};

// The partial sums first, first + step, ... of 16, added by pairwise halving, for a group of queries.
template <int64_t step>
HWY_INLINE GroupSums Dots(const float* q, const float* keys, int64_t d, int64_t first) {
  GroupSums sum;
  if constexpr (step == kLanes) {
    for (Floats& s : sum.of_head) s = Zero();
    for (int64_t c = first; c < d; c += kLanes) {
      const Floats key = Load(keys + c * kLanes);
      for (int64_t h = 0; h < kGroup; ++h) sum.of_head[h] = MulAdd(Set(q[h * d + c]), key, sum.of_head[h]);
    }
  } else {
    sum = Dots<2 * step>(q, keys, d, first);
    const GroupSums other = Dots<2 * step>(q, keys, d, first + step);
    for (int64_t h = 0; h < kGroup; ++h) sum.of_head[h] = sum.of_head[h] + other.of_head[h];
  }
  return sum;
}

// Scores of token t, whose queries are q, with 16 keys.
HWY_INLINE Floats Scores(const IndexerScores::Args& a, int64_t t, const float* q, const float* keys) {
  const BF16* w = a.w.Row<BF16>(t);
  const int64_t heads = a.q.dim(1), d = a.q.dim(2);
  Floats sum = Zero();
  for (int64_t begin = 0; begin < heads; begin += kGroup) {
    const GroupSums dots = Dots<1>(q + begin * d, keys, d, 0);
    for (int64_t h = begin; h < std::min(begin + kGroup, heads); ++h) {
      const Floats relu = AtLeast(Zero(), RoundToBf16(dots.of_head[h - begin]));
      sum = sum + RoundToBf16(relu * Set(w[h].ToFloat()));
    }
  }
  return RoundToBf16(sum);
}

// Scores [begin, end) of token t. q: its queries as f32.
void ScoreEntries(const IndexerScores::Args& a, int64_t t, const float* q, int64_t begin, int64_t end) {
  alignas(64) float keys[kLanes * kMaxChannels], lanes[kLanes];
  const int64_t visible = std::clamp<int64_t>(a.count.Data<int32_t>()[t], begin, end);
  const int32_t* pages = a.block_table.Row<int32_t>(a.seq.Data<int32_t>()[t]);
  float* scores = a.scores.MutRow<float>(t);
  for (int64_t j = begin; j < visible; j += kLanes) {
    LoadKeys(a, pages, j, visible, keys);
    Store(Scores(a, t, q, keys), lanes);
    std::copy_n(lanes, std::min(visible - j, kLanes), scores + j);
  }
  std::fill(scores + visible, scores + end, -std::numeric_limits<float>::infinity());
}

Status IndexerScoresVectors(const Context& ctx, const IndexerScores::Args& a) {
  const int64_t m = a.scores.dim(1), ranges = (m + kEntries - 1) / kEntries;
  const int64_t heads = a.q.dim(1), d = a.q.dim(2), groups = (heads + kGroup - 1) / kGroup;
  ctx.For(a.q.dim(0) * ranges, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> q(size_t(groups * kGroup * d));  // zero beyond the heads
    for (int64_t item = begin, loaded = -1; item < end; ++item) {
      const int64_t t = item / ranges, first = item % ranges * kEntries;
      if (t != loaded) {
        for (int64_t h = 0; h < heads; ++h) {
          const BF16* from = a.q.Row<BF16>(t) + h * a.q.stride(1);
          for (int64_t c = 0; c < d; c += kLanes) Store(Load(from + c), q.data() + h * d + c);
        }
        loaded = t;
      }
      ScoreEntries(a, t, q.data(), first, std::min(first + kEntries, m));
    }
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support IndexerScoresVectorsSupport(const Context&, const IndexerScores::Args& a) {
  VX_REQUIRE(a.q.dtype() == DType::kBF16, "q must be BF16");
  VX_REQUIRE(a.q.dim(2) % 16 == 0 && a.q.dim(2) <= 256, "d must be a multiple of 16 up to 256");
  return {};
}

HWY_EXPORT(IndexerScoresVectors);
VX_VECTOR_KERNELS(IndexerScores)

}  // namespace vexil::cpu
#endif
