// Indexer scores on AMX tiles: 16 heads of q (as they lie in memory) times 16 keys (packed in pairs of channels).
//
// Work is split by ranges of entries and by groups of tokens of one sequence, which share the packed keys. The head
// sum runs with entries in vector lanes, heads ascending. Bytes moved: the keys once per group of tokens. Dot products
// are f32 sums of ascending pairs of channels in one chain.
#include "ops/indexer_scores/indexer_scores.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "ops/x86/amx_tiles.h"
#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AMX_ATTRIBUTES)
#include "ops/x86/avx512_math.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kTileChannels = 32;
constexpr int64_t kEntries = 256;  // per piece of work
constexpr int64_t kTokens = 8;     // of one sequence, that share packed keys
constexpr int64_t kMaxHeads = 128, kMaxChannels = 256;

// Consecutive tokens of one sequence.
struct Group {
  int64_t begin, end;
  int64_t visible;  // the most entries that one of them sees
};

std::vector<Group> Groups(const IndexerScores::Args& a) {
  const int32_t *seq = a.seq.Data<int32_t>(), *count = a.count.Data<int32_t>();
  std::vector<Group> groups;
  for (int64_t t = 0; t < a.q.dim(0); ++t) {
    const bool fits = !groups.empty() && t - groups.back().begin < kTokens && seq[t] == seq[groups.back().begin];
    if (!fits) groups.push_back({t, t, 0});
    groups.back().end = t + 1;
    groups.back().visible = std::max<int64_t>(groups.back().visible, count[t]);
  }
  return groups;
}

// The value after rounding to BF16.
inline __m512 Rounded(__m512 v) {
  const __m256i bits = (__m256i)_mm512_cvtneps_pbh(v);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// Keys of entries [begin, begin + 16) of a sequence; beyond `end` the last one again.
void PackKeys(const IndexerScores::Args& a, const int32_t* pages, int64_t begin, int64_t end, uint8_t* packed) {
  const int64_t block = a.entries_per_block;
  const BF16* rows[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    const int64_t j = std::min(begin + i, end - 1);
    rows[i] = a.keys.Row<BF16>(pages[j / block] * block + j % block);
  }
  for (int64_t c = 0; c < a.q.dim(2) / kTileChannels; ++c) {
    __m512i r[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) r[i] = _mm512_loadu_si512(rows[i] + c * kTileChannels);
    Transpose16(r);
    for (int64_t i = 0; i < kLanes; ++i) _mm512_store_si512(packed + c * kTileBytes + i * 64, r[i]);
  }
}

// dots[head][entry] of token t with 16 packed keys.
void Dots(const IndexerScores::Args& a, int64_t t, const uint8_t* packed, float* dots) {
  const int64_t steps = a.q.dim(2) / kTileChannels, stride = a.q.stride(1) * int64_t(sizeof(BF16));
  for (int64_t h = 0; h < a.q.dim(1); h += 2 * kLanes) {
    const bool second = h + kLanes < a.q.dim(1);
    const BF16* q = a.q.Row<BF16>(t) + h * a.q.stride(1);
    VX_TILE_ZERO(0);
    VX_TILE_ZERO(1);
    for (int64_t c = 0; c < steps; ++c) {
      VX_TILE_LOAD(4, packed + c * kTileBytes);
      VX_TILE_LOAD_STRIDED(5, q + c * kTileChannels, stride);
      VX_TILE_MULTIPLY(0, 5, 4);
      if (!second) continue;
      VX_TILE_LOAD_STRIDED(6, q + kLanes * a.q.stride(1) + c * kTileChannels, stride);
      VX_TILE_MULTIPLY(1, 6, 4);
    }
    VX_TILE_STORE(0, dots + h * kLanes, 64);
    if (second) VX_TILE_STORE(1, dots + (h + kLanes) * kLanes, 64);
  }
}

__m512 SumHeads(const float* dots, const BF16* w, int64_t heads) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t h = 0; h < heads; ++h) {
    const __m512 relu = _mm512_max_ps(_mm512_setzero_ps(), Rounded(_mm512_load_ps(dots + h * kLanes)));
    sum = _mm512_add_ps(sum, Rounded(_mm512_mul_ps(relu, _mm512_set1_ps(w[h].ToFloat()))));
  }
  return Rounded(sum);
}

// Scores [begin, end) of a group's tokens.
void ScoreRange(const IndexerScores::Args& a, const Group& g, int64_t begin, int64_t end) {
  alignas(64) uint8_t packed[kMaxChannels / kTileChannels * kTileBytes];
  alignas(64) float dots[kMaxHeads * kLanes];
  const int32_t* pages = a.block_table.Row<int32_t>(a.seq.Data<int32_t>()[g.begin]);
  const int32_t* count = a.count.Data<int32_t>();
  const int64_t last = std::min(end, g.visible);
  for (int64_t j = begin; j < last; j += kLanes) {
    PackKeys(a, pages, j, last, packed);
    for (int64_t t = g.begin; t < g.end; ++t) {
      const int64_t lanes = std::clamp<int64_t>(std::min<int64_t>(count[t], end) - j, 0, kLanes);
      if (lanes == 0) continue;
      Dots(a, t, packed, dots);
      const __m512 scores = SumHeads(dots, a.w.Row<BF16>(t), a.q.dim(1));
      _mm512_mask_storeu_ps(a.scores.MutRow<float>(t) + j, __mmask16((1u << lanes) - 1), scores);
    }
  }
  for (int64_t t = g.begin; t < g.end; ++t) {
    float* scores = a.scores.MutRow<float>(t);
    std::fill(scores + std::clamp<int64_t>(count[t], begin, end), scores + end,
              -std::numeric_limits<float>::infinity());
  }
}

}  // namespace

Support IndexerScoresAmxSupports(const Context& ctx, const IndexerScores::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAmx), "needs AMX BF16");
  VX_REQUIRE(a.q.dtype() == DType::kBF16, "q must be BF16");
  VX_REQUIRE(a.q.dim(1) % kLanes == 0 && a.q.dim(1) <= kMaxHeads, "heads must be a multiple of 16 up to 128");
  VX_REQUIRE(a.q.dim(2) % kTileChannels == 0 && a.q.dim(2) <= kMaxChannels, "d must be a multiple of 32 up to 256");
  return {};
}

Status IndexerScoresAmx(const Context& ctx, const IndexerScores::Args& a) {
  const std::vector<Group> groups = Groups(a);
  const int64_t m = a.scores.dim(1), ranges = (m + kEntries - 1) / kEntries;
  ctx.For(int64_t(groups.size()) * ranges, 1, [&](int64_t begin, int64_t end) {
    const FullTiles tiles;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % ranges * kEntries;
      ScoreRange(a, groups[size_t(item / ranges)], first, std::min(first + kEntries, m));
    }
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
