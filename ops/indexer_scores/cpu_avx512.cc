// Indexer scores in AVX-512 vectors, for few heads and for processors without AMX.
//
// Work is split by tokens and ranges of entries. Sixteen keys become f32 once; a head's dot products with them keep 16
// partial sums each, in ascending order of channels (fused), which are transposed and added by pairwise halving,
// entries in vector lanes. The head sum runs in the same lanes, heads ascending. Bytes moved: the keys once per token.
#include "ops/indexer_scores/indexer_scores.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <limits>

#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AVX512_ATTRIBUTES)
#include "ops/x86/avx512_math.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kEntries = 256;  // per piece of work
constexpr int64_t kMaxChannels = 256;

// Keys of entries [begin, begin + 16) of a sequence as f32, [entry][d]; beyond `end` the last one again.
void LoadKeys(const IndexerScores::Args& a, const int32_t* pages, int64_t begin, int64_t end, float* keys) {
  const int64_t block = a.entries_per_block, d = a.q.dim(2);
  for (int64_t i = 0; i < kLanes; ++i) {
    const int64_t j = std::min(begin + i, end - 1);
    const BF16* row = a.keys.Row<BF16>(pages[j / block] * block + j % block);
    for (int64_t c = 0; c < d; c += kLanes) _mm512_store_ps(keys + i * d + c, LoadBf16(row + c));
  }
}

// The dot products of one query with 16 keys.
__m512 Dots(const BF16* q, const float* keys, int64_t d) {
  __m512 sum[kLanes];
  for (__m512& s : sum) s = _mm512_setzero_ps();
  for (int64_t c = 0; c < d; c += kLanes) {
    const __m512 channels = LoadBf16(q + c);
    for (int64_t i = 0; i < kLanes; ++i) {
      sum[i] = _mm512_fmadd_ps(channels, _mm512_load_ps(keys + i * d + c), sum[i]);
    }
  }
  __m512i lanes[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = _mm512_castps_si512(sum[i]);
  Transpose16(lanes);
  for (int64_t i = 0; i < kLanes; ++i) sum[i] = _mm512_castsi512_ps(lanes[i]);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) sum[l] = _mm512_add_ps(sum[l], sum[l + half]);
  }
  return sum[0];
}

// Scores of token t with 16 keys.
__m512 Scores(const IndexerScores::Args& a, int64_t t, const float* keys) {
  const BF16 *q = a.q.Row<BF16>(t), *w = a.w.Row<BF16>(t);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t h = 0; h < a.q.dim(1); ++h) {
    const __m512 dots = RoundToBf16(Dots(q + h * a.q.stride(1), keys, a.q.dim(2)));
    const __m512 relu = _mm512_max_ps(_mm512_setzero_ps(), dots);
    sum = _mm512_add_ps(sum, RoundToBf16(_mm512_mul_ps(relu, _mm512_set1_ps(w[h].ToFloat()))));
  }
  return RoundToBf16(sum);
}

// Scores [begin, end) of token t.
void ScoreEntries(const IndexerScores::Args& a, int64_t t, int64_t begin, int64_t end) {
  alignas(64) float keys[kLanes * kMaxChannels];
  const int64_t visible = std::clamp<int64_t>(a.count.Data<int32_t>()[t], begin, end);
  const int32_t* pages = a.block_table.Row<int32_t>(a.seq.Data<int32_t>()[t]);
  float* scores = a.scores.MutRow<float>(t);
  for (int64_t j = begin; j < visible; j += kLanes) {
    LoadKeys(a, pages, j, visible, keys);
    const int64_t lanes = std::min(visible - j, kLanes);
    _mm512_mask_storeu_ps(scores + j, __mmask16((1u << lanes) - 1), Scores(a, t, keys));
  }
  std::fill(scores + visible, scores + end, -std::numeric_limits<float>::infinity());
}

}  // namespace

Support IndexerScoresAvx512Supports(const Context& ctx, const IndexerScores::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512), "needs AVX-512");
  VX_REQUIRE(a.q.dtype() == DType::kBF16, "q must be BF16");
  VX_REQUIRE(a.q.dim(2) % kLanes == 0 && a.q.dim(2) <= kMaxChannels, "d must be a multiple of 16 up to 256");
  return {};
}

Status IndexerScoresAvx512(const Context& ctx, const IndexerScores::Args& a) {
  const int64_t m = a.scores.dim(1), ranges = (m + kEntries - 1) / kEntries;
  ctx.For(a.q.dim(0) * ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % ranges * kEntries;
      ScoreEntries(a, item / ranges, first, std::min(first + kEntries, m));
    }
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
