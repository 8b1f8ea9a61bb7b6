// The best kernel of IndexerScores, strip by strip of entries, and a running choice of the best k of each token.
//
// The choice holds up to 2k entries; when it is full, the worst are dropped, and the worst that is left is the score to
// beat: entries come in ascending order, so one that only equals it ranks behind. Scores: 4 MB at most, whatever the
// context; choices: 16 bytes times k a token, for 128 tokens at a time. Bytes moved: those of IndexerScores, whose
// scores stay in a cache.
#include <algorithm>
#include <limits>
#include <vector>

#include "ops/indexer_top_k/indexer_top_k.h"
#include "ops/top_k/rank_key.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kStrip = 8192;  // entries at a time, rounded to blocks
constexpr int64_t kTokens = 128;  // at a time
constexpr int64_t kAtOnce = 16;   // scores that are compared together

// The best k of the entries that a token has seen. Keys: ops/top_k/rank_key.h.
class Choice {
 public:
  static int64_t Capacity(int64_t k) { return 2 * k + kAtOnce; }
  Choice(uint64_t* keys, int64_t k) : keys_(keys), k_(k) {}

  // Scores of entries from `first` on, behind all that came before.
  void Add(const float* scores, int64_t count, int64_t first) {
    for (int64_t j = 0; j < count; j += kAtOnce) {
      const int64_t n = std::min(kAtOnce, count - j);
      if (full_ && !AnyBeats(scores + j, n)) continue;
      for (int64_t i = j; i < j + n; ++i) {
        if (!full_ || scores[i] > floor_) keys_[used_++] = RankKey(scores[i], uint32_t(first + i));
      }
      if (used_ > 2 * k_) DropWorst();
    }
  }

  // The best k in order; -1 where there are fewer.
  void Finish(int32_t* indices) {
    if (used_ > k_) DropWorst();
    std::sort(keys_, keys_ + used_);
    for (int64_t j = 0; j < used_; ++j) indices[j] = RankedIndex(keys_[j]);
    std::fill(indices + used_, indices + k_, -1);
  }

 private:
  bool AnyBeats(const float* scores, int64_t n) const {
    if (n < kAtOnce) return true;
    int any = 0;
    for (int64_t i = 0; i < kAtOnce; ++i) any |= int(scores[i] > floor_);
    return any != 0;
  }
  void DropWorst() {
    full_ = true;
    if (k_ > 0) std::nth_element(keys_, keys_ + k_ - 1, keys_ + used_);
    floor_ = k_ > 0 ? RankedScore(keys_[k_ - 1]) : std::numeric_limits<float>::infinity();
    used_ = k_;
  }

  uint64_t* keys_;
  int64_t k_, used_ = 0;
  bool full_ = false;
  float floor_ = 0;
};

// Tokens [begin, end).
Status Choose(const Context& ctx, const IndexerTopK::Args& a, int64_t begin, int64_t end) {
  const int64_t n = end - begin, k = a.indices.dim(1), per_block = a.entries_per_block;
  const int64_t strip = std::max<int64_t>(1, kStrip / per_block) * per_block;
  const Arena::Scope scope(*ctx.workspace);
  const MutTensorView scores = ctx.workspace->NewTensor(DType::kF32, {n, std::min(strip, a.max_count)});
  const MutTensorView counts = ctx.workspace->NewTensor(DType::kI32, {n});
  uint64_t* keys = ctx.workspace->Allocate<uint64_t>(n * Choice::Capacity(k));
  std::vector<Choice> choices;
  for (int64_t i = 0; i < n; ++i) choices.emplace_back(keys + i * Choice::Capacity(k), k);

  const int32_t* all = a.count.Data<int32_t>() + begin;
  int32_t* count = counts.MutData<int32_t>();
  for (int64_t first = 0; first < a.max_count; first += strip) {
    const int64_t columns = std::min(strip, a.max_count - first);
    for (int64_t i = 0; i < n; ++i) count[i] = int32_t(std::clamp<int64_t>(all[i] - first, 0, columns));
    IndexerScores::Args part = ScoresOf(a, begin, end, scores.Columns(0, columns));
    part.count = counts;
    part.block_table = a.block_table.Columns(first / per_block, a.block_table.dim(1));
    VX_TRY(Run<IndexerScores>(ctx, part));
    if (ctx.dry_run) continue;
    ctx.For(n, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) choices[size_t(i)].Add(scores.Row<float>(i), count[i], first);
    });
  }
  if (ctx.dry_run) return {};
  ctx.For(n, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) choices[size_t(i)].Finish(a.indices.MutRow<int32_t>(begin + i));
  });
  return {};
}

}  // namespace

Support IndexerTopKStripsSupports(const Context& ctx, const IndexerTopK::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status IndexerTopKStrips(const Context& ctx, const IndexerTopK::Args& a) {
  for (int64_t begin = 0; begin < a.q.dim(0); begin += kTokens) {
    VX_TRY(Choose(ctx, a, begin, std::min(begin + kTokens, a.q.dim(0))));
  }
  return {};
}

}  // namespace vexil::cpu
