#include <algorithm>
#include <limits>
#include <vector>

#include "ops/dot.h"
#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/indexer_scores/indexer_scores.h"

namespace vexil::cpu {

Support IndexerScoresPlainSupports(const Context&, const IndexerScores::Args& a) {
  VX_REQUIRE(IsFloat(a.q.dtype()), "q must be F32 or BF16");
  return {};
}

namespace {

// Entries per piece of work: enough to pay for converting the token's queries.
constexpr int64_t kEntries = 64;

// A rounding point of the definition: bf16 for BF16 activations, nothing for F32.
template <class T>
float Rounded(float v) {
  return ToFloat(FromFloat<T>(v));
}

template <class T>
void Convert(const T* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(x[i]);
}

// The score of one entry: q is [heads, d].
template <class T>
float Score(const float* q, const float* key, const float* w, int64_t heads, int64_t d) {
  float sum = 0;
  for (int64_t h = 0; h < heads; ++h) {
    const float dot = Dot(q + h * d, key, d);
    const float rounded = VX_FAULT("unrounded_dot") ? dot : Rounded<T>(dot);
    const float relu = VX_FAULT("no_relu") ? rounded : std::max(rounded, 0.0f);
    const float product = relu * w[VX_FAULT("reversed_heads") ? heads - 1 - h : h];
    sum += VX_FAULT("unrounded_product") ? product : Rounded<T>(product);
  }
  return VX_FAULT("unrounded_sum") ? sum : Rounded<T>(sum);
}

// Scores [begin, end) of token t.
template <class T>
void ScoreEntries(const IndexerScores::Args& a, int64_t t, int64_t begin, int64_t end) {
  const int64_t heads = a.q.dim(1), d = a.q.dim(2), block = a.entries_per_block;
  const int64_t count = a.count.Data<int32_t>()[t], visible = std::clamp(count, begin, end);
  VX_DCHECK(count >= 0 && count <= a.scores.dim(1), "count beyond the columns of scores");
  float* scores = a.scores.MutRow<float>(t);
  std::fill(scores + visible, scores + end, VX_FAULT("zero_beyond") ? 0.0f : -std::numeric_limits<float>::infinity());
  if (visible == begin) return;

  std::vector<float> q(size_t(heads * d)), w(static_cast<size_t>(heads)), key(static_cast<size_t>(d));
  for (int64_t h = 0; h < heads; ++h) Convert(a.q.Row<T>(t) + h * a.q.stride(1), d, q.data() + h * d);
  Convert(a.w.Row<T>(t), heads, w.data());
  const int32_t* pages = a.block_table.Row<int32_t>(a.seq.Data<int32_t>()[t]);
  for (int64_t j = begin; j < visible; ++j) {
    const int64_t page = VX_FAULT("ignored_block_table") ? j / block : pages[j / block];
    VX_DCHECK(page >= 0, "entry in a block that the sequence does not have");
    Convert(a.keys.Row<T>(page * block + j % block), d, key.data());
    scores[j] = Score<T>(q.data(), key.data(), w.data(), heads, d);
  }
}

}  // namespace

Status IndexerScoresPlain(const Context& ctx, const IndexerScores::Args& a) {
  const int64_t m = a.scores.dim(1), ranges = (m + kEntries - 1) / kEntries;
  WithFloatType(a.q.dtype(), [&](auto element) {
    ctx.For(a.q.dim(0) * ranges, 1, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = item % ranges * kEntries;
        ScoreEntries<decltype(element)>(a, item / ranges, first, std::min(first + kEntries, m));
      }
    });
  });
  return {};
}

}  // namespace vexil::cpu
