// Sparse attention as small matrix products on AMX tiles: all heads of a token share their rows.
//
// For each block of 64 columns the named rows are gathered once, in two layouts: as they are (left operand of
// S^T = V Q^T, 16 entries x 32 channels a tile) and with neighbouring entries interleaved (right operand of
// Y += P V). Q is packed once per token. Softmax runs with heads in vector lanes, f32 throughout. Work is split by
// token, and by 32 heads while there are fewer tokens than threads: the arithmetic of a head is the same in either.
// Bytes moved: the listed rows once per item, q and y once; everything else stays in the second cache (some 0.4 MB).
// Sums are f32: a dot product runs through the channels in ascending pairs in one chain, Y through the entries of a
// block in ascending pairs.
#include "ops/sparse_attention/sparse_attention.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "ops/x86/amx_tiles.h"
#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AMX_ATTRIBUTES)
#include "ops/x86/avx512_math.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kBlock = SparseAttention::kBlock;
constexpr int64_t kLanes = 16;  // heads in a vector, rows of a tile
constexpr int64_t kGroup = 32;  // heads whose products share the loaded tiles
constexpr int64_t kTileChannels = 32;
constexpr int64_t kMaxChannels = 1024;
constexpr int64_t kBlockTiles = kBlock / kLanes;

// Scratch of one item. Tiles are stored one after the other, 16 rows of 64 bytes.
struct Scratch {
  uint8_t* keys;     // [entry tile][channel step]
  uint8_t* values;   // [32 entries][16 channels, in the order of unpack]
  uint8_t* q;        // [group][channel step][2]: pairs of channels by head
  float* y;          // [group][channel tile][2][head][16]
  float *max, *sum;  // [heads]
  float* scores;     // [entry][32 heads]
  uint8_t* p;        // [32 entries][2]: heads by entry, BF16
  const BF16* zero_row;

  static int64_t Bytes(int64_t groups, int64_t d) {
    const int64_t steps = d / kTileChannels;
    return kBlockTiles * steps * kTileBytes + 2 * steps * (kBlock / 32) * kTileBytes + groups * steps * 2 * kTileBytes +
           groups * 2 * steps * 2 * kTileBytes + 2 * groups * kGroup * 4 + kBlock * kGroup * 4 +
           kBlock / 32 * 2 * kTileBytes + d * 2;
  }
  Scratch(uint8_t* m, int64_t groups, int64_t d) {
    const int64_t steps = d / kTileChannels;
    const auto take = [&](int64_t bytes) { return std::exchange(m, m + bytes); };
    keys = take(kBlockTiles * steps * kTileBytes);
    values = take(2 * steps * (kBlock / 32) * kTileBytes);
    q = take(groups * steps * 2 * kTileBytes);
    y = reinterpret_cast<float*>(take(groups * 2 * steps * 2 * kTileBytes));
    max = reinterpret_cast<float*>(take(groups * kGroup * 4));
    sum = reinterpret_cast<float*>(take(groups * kGroup * 4));
    scores = reinterpret_cast<float*>(take(kBlock * kGroup * 4));
    p = take(kBlock / 32 * 2 * kTileBytes);
    BF16* zeros = reinterpret_cast<BF16*>(take(d * 2));
    std::fill_n(zeros, d, BF16{});
    zero_row = zeros;
  }
};

const BF16* RowAt(const SparseAttention::Args& a, int64_t row) {
  const int64_t step = a.step_kv.dim(0), window = a.window_kv.empty() ? 0 : a.window_kv.dim(0);
  if (row < step) return a.step_kv.Row<BF16>(row);
  if (row < step + window) return a.window_kv.Row<BF16>(row - step);
  return a.compressed_kv.Row<BF16>(row - step - window);
}

// The rows of a block without the -1, then zero rows up to a multiple of 32. Returns how many are real.
int64_t ListRows(const SparseAttention::Args& a, const int32_t* columns, int64_t count, const BF16* zero_row,
                 const BF16** rows) {
  int64_t used = 0;
  for (int64_t j = 0; j < count; ++j) {
    if (columns[j] >= 0) rows[used++] = RowAt(a, columns[j]);
  }
  for (int64_t j = used; j % 32 != 0; ++j) rows[j] = zero_row;
  return used;
}

// Asks for the rows of the next block little by little between the products, which need no memory: all at once they
// would wait for one another.
class Prefetch {
 public:
  // `calls` of Some() are to come.
  Prefetch(const BF16* const* rows, int64_t count, int64_t d, int64_t calls)
      : rows_(rows),
        lines_per_row_(2 * d / 64),
        lines_(count * lines_per_row_),
        per_call_((lines_ + calls - 1) / calls) {}
  void Some() {
    for (const int64_t end = std::min(at_ + per_call_, lines_); at_ < end; ++at_) {
      const char* row = reinterpret_cast<const char*>(rows_[at_ / lines_per_row_]);
      _mm_prefetch(row + at_ % lines_per_row_ * 64, _MM_HINT_T1);
    }
  }

 private:
  const BF16* const* rows_;
  int64_t lines_per_row_, lines_, per_call_, at_ = 0;
};

// Both layouts of the block's rows.
void Gather(const BF16* const* rows, int64_t padded, int64_t d, const Scratch& s) {
  const int64_t steps = d / kTileChannels;
  for (int64_t e = 0; e < padded; e += 2) {
    uint8_t* key = s.keys + e / kLanes * steps * kTileBytes + e % kLanes * 64;
    uint8_t* value = s.values + e / 32 * 2 * steps * kTileBytes + e % 32 / 2 * 64;
    for (int64_t c = 0; c < steps; ++c) {
      const __m512i v0 = _mm512_loadu_si512(rows[e] + c * kTileChannels);
      const __m512i v1 = _mm512_loadu_si512(rows[e + 1] + c * kTileChannels);
      _mm512_store_si512(key + c * kTileBytes, v0);
      _mm512_store_si512(key + c * kTileBytes + 64, v1);
      _mm512_store_si512(value + 2 * c * kTileBytes, _mm512_unpacklo_epi16(v0, v1));
      _mm512_store_si512(value + (2 * c + 1) * kTileBytes, _mm512_unpackhi_epi16(v0, v1));
    }
  }
}

// Packs heads [begin, begin + 32 * groups) of token t; heads beyond the last are zero.
void PackQueries(const SparseAttention::Args& a, int64_t t, int64_t begin, int64_t groups, const Scratch& s) {
  const int64_t d = a.q.dim(2), steps = d / kTileChannels, heads = a.q.dim(1);
  for (int64_t tile = 0; tile < 2 * groups; ++tile) {
    for (int64_t c = 0; c < steps; ++c) {
      __m512i r[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const int64_t h = begin + tile * kLanes + i;
        r[i] = h < heads ? _mm512_loadu_si512(a.q.Row<BF16>(t) + h * a.q.stride(1) + c * kTileChannels)
                         : _mm512_setzero_si512();
      }
      Transpose16(r);
      uint8_t* out = s.q + ((tile / 2 * steps + c) * 2 + tile % 2) * kTileBytes;
      for (int64_t i = 0; i < kLanes; ++i) _mm512_store_si512(out + i * 64, r[i]);
    }
  }
}

// scores[entry][head] = row . q for a group of heads and `padded` entries.
void Scores(const uint8_t* q, int64_t padded, int64_t steps, const Scratch& s, Prefetch& prefetch) {
  constexpr int64_t kRowBytes = kGroup * 4;
  for (int64_t e = 0; e < padded; e += 2 * kLanes) {
    const uint8_t* keys0 = s.keys + e / kLanes * steps * kTileBytes;
    const uint8_t* keys1 = keys0 + steps * kTileBytes;
    VX_TILE_ZERO(0);
    VX_TILE_ZERO(1);
    VX_TILE_ZERO(2);
    VX_TILE_ZERO(3);
    for (int64_t c = 0; c < steps; ++c) {
      prefetch.Some();
      VX_TILE_LOAD(4, keys0 + c * kTileBytes);
      VX_TILE_LOAD(6, q + 2 * c * kTileBytes);
      VX_TILE_LOAD(7, q + (2 * c + 1) * kTileBytes);
      VX_TILE_LOAD(5, keys1 + c * kTileBytes);
      VX_TILE_MULTIPLY(0, 4, 6);
      VX_TILE_MULTIPLY(1, 4, 7);
      VX_TILE_MULTIPLY(2, 5, 6);
      VX_TILE_MULTIPLY(3, 5, 7);
    }
    float* out = s.scores + e * kGroup;
    VX_TILE_STORE(0, out, kRowBytes);
    VX_TILE_STORE(1, out + kLanes, kRowBytes);
    VX_TILE_STORE(2, out + kLanes * kGroup, kRowBytes);
    VX_TILE_STORE(3, out + kLanes * kGroup + kLanes, kRowBytes);
  }
}

// One step of the online softmax for 16 heads: moves max and sum, writes P by head, returns what to keep of y.
__m512 Softmax(float* scores, int64_t rows, int64_t padded, float scale, float* max_at, float* sum_at, uint8_t* p) {
  const __m512 before = _mm512_loadu_ps(max_at), factor = _mm512_set1_ps(scale);
  __m512 max = before;
  for (int64_t j = 0; j < rows; ++j) {
    const __m512 l = _mm512_mul_ps(_mm512_loadu_ps(scores + j * kGroup), factor);
    _mm512_storeu_ps(scores + j * kGroup, l);
    max = _mm512_max_ps(l, max);  // the second where one is NaN, as std::max
  }
  __m512 sum = _mm512_setzero_ps();
  for (int64_t e = 0; e < padded; e += 32) {
    __m512i pairs[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      const int64_t j = e + 2 * i;
      const __m512 first =
          j < rows ? Exp16(_mm512_sub_ps(_mm512_loadu_ps(scores + j * kGroup), max)) : _mm512_setzero_ps();
      const __m512 second =
          j + 1 < rows ? Exp16(_mm512_sub_ps(_mm512_loadu_ps(scores + (j + 1) * kGroup), max)) : _mm512_setzero_ps();
      sum = _mm512_add_ps(_mm512_add_ps(sum, first), second);
      pairs[i] =
          _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(RoundBf16Bits(first), 16), RoundBf16Bits(second));
    }
    Transpose16(pairs);
    for (int64_t i = 0; i < kLanes; ++i) _mm512_store_si512(p + e / 32 * 2 * kTileBytes + i * 64, pairs[i]);
  }
  const __m512 keep = Exp16(_mm512_sub_ps(before, max));
  _mm512_storeu_ps(max_at, max);
  _mm512_storeu_ps(sum_at, _mm512_fmadd_ps(_mm512_loadu_ps(sum_at), keep, sum));
  return keep;
}

// y *= keep, for the heads of a tile whose maximum moved.
void Rescale(float* y, int64_t tile, __m512 keep, int64_t channel_tiles) {
  const __mmask16 moved = _mm512_cmp_ps_mask(keep, _mm512_set1_ps(1), _CMP_NEQ_UQ);
  if (moved == 0) return;
  alignas(64) float factor[kLanes];
  _mm512_store_ps(factor, keep);
  for (int64_t c = 0; c < channel_tiles; ++c) {
    float* rows = y + (c * 2 + tile) * kLanes * kLanes;
    for (uint32_t left = moved; left != 0; left &= left - 1) {
      const int h = __builtin_ctz(left);
      _mm512_store_ps(rows + h * kLanes, _mm512_mul_ps(_mm512_load_ps(rows + h * kLanes), _mm512_set1_ps(factor[h])));
    }
  }
}

// y += P V for a group of heads.
void AddValues(float* y, bool first_block, int64_t padded, int64_t channel_tiles, const Scratch& s,
               Prefetch& prefetch) {
  constexpr int64_t kFloats = kLanes * kLanes;
  for (int64_t c = 0; c < channel_tiles; c += 2) {
    float* out = y + c * 2 * kFloats;
    prefetch.Some();
    if (first_block) {
      VX_TILE_ZERO(0);
      VX_TILE_ZERO(1);
      VX_TILE_ZERO(2);
      VX_TILE_ZERO(3);
    } else {
      VX_TILE_LOAD(0, out);
      VX_TILE_LOAD(1, out + kFloats);
      VX_TILE_LOAD(2, out + 2 * kFloats);
      VX_TILE_LOAD(3, out + 3 * kFloats);
    }
    for (int64_t e = 0; e < padded; e += 32) {
      const uint8_t* values = s.values + (e / 32 * channel_tiles + c) * kTileBytes;
      const uint8_t* p = s.p + e / 32 * 2 * kTileBytes;
      VX_TILE_LOAD(4, p);
      VX_TILE_LOAD(6, values);
      VX_TILE_LOAD(5, p + kTileBytes);
      VX_TILE_LOAD(7, values + kTileBytes);
      VX_TILE_MULTIPLY(0, 4, 6);
      VX_TILE_MULTIPLY(1, 5, 6);
      VX_TILE_MULTIPLY(2, 4, 7);
      VX_TILE_MULTIPLY(3, 5, 7);
    }
    VX_TILE_STORE(0, out, 64);
    VX_TILE_STORE(1, out + kFloats, 64);
    VX_TILE_STORE(2, out + 2 * kFloats, 64);
    VX_TILE_STORE(3, out + 3 * kFloats, 64);
  }
}

// The quotient of one head, channels back in their order.
void FinishHead(const float* y, float sum, float max, float sink, int64_t channel_tiles, BF16* out) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  const __m512 z = _mm512_add_ps(_mm512_set1_ps(sum), Exp16(_mm512_set1_ps(sink - max)));
  for (int64_t c = 0; c < channel_tiles; c += 2) {
    const __m512 low = _mm512_div_ps(_mm512_load_ps(y + c * 2 * kLanes * kLanes), z);
    const __m512 high = _mm512_div_ps(_mm512_load_ps(y + (c + 1) * 2 * kLanes * kLanes), z);
    StoreBf16(out + c * kLanes, _mm512_permutex2var_ps(low, first, high));
    StoreBf16(out + (c + 1) * kLanes, _mm512_permutex2var_ps(low, second, high));
  }
}

// Heads [begin, begin + 32 * groups) of token t, as far as there are any.
void Attend(const SparseAttention::Args& a, int64_t t, int64_t begin, int64_t groups, const Scratch& s) {
  const int64_t d = a.q.dim(2), steps = d / kTileChannels, channel_tiles = 2 * steps, columns = a.rows.dim(1);
  const int64_t group_floats = channel_tiles * 2 * kLanes * kLanes;
  const int32_t* list = a.rows.Row<int32_t>(t);
  PackQueries(a, t, begin, groups, s);
  std::fill_n(s.max, groups * kGroup, -std::numeric_limits<float>::infinity());
  std::fill_n(s.sum, groups * kGroup, 0.0f);
  const BF16* rows[2][kBlock];
  const auto block = [&](int64_t j, const BF16** out) {
    return j < columns ? ListRows(a, list + j, std::min(kBlock, columns - j), s.zero_row, out) : 0;
  };
  int64_t count = block(0, rows[0]);
  bool first_block = true;
  for (int64_t j = 0, now = 0; j < columns; j += kBlock, now ^= 1) {
    const int64_t next_count = block(j + kBlock, rows[now ^ 1]);
    const int64_t used = std::exchange(count, next_count), padded = (used + 31) / 32 * 32;
    if (used == 0) continue;
    Gather(rows[now], padded, d, s);
    Prefetch prefetch(rows[now ^ 1], next_count, d, groups * steps * (padded / 32 + 1));
    for (int64_t g = 0; g < groups; ++g) {
      float* y = s.y + g * group_floats;
      Scores(s.q + g * steps * 2 * kTileBytes, padded, steps, s, prefetch);
      for (int64_t tile = 0; tile < 2; ++tile) {
        const int64_t h = g * kGroup + tile * kLanes;
        const __m512 keep =
            Softmax(s.scores + tile * kLanes, used, padded, a.scale, s.max + h, s.sum + h, s.p + tile * kTileBytes);
        if (!first_block) Rescale(y, tile, keep, channel_tiles);
      }
      AddValues(y, first_block, padded, channel_tiles, s, prefetch);
    }
    first_block = false;
  }
  for (int64_t i = 0; i < groups * kGroup && begin + i < a.q.dim(1); ++i) {
    BF16* out = a.y.MutRow<BF16>(t) + (begin + i) * a.y.stride(1);
    if (first_block) {
      std::fill_n(out, d, BF16{});  // no row at all
      continue;
    }
    const float* y = s.y + i / kGroup * group_floats + (i % kGroup / kLanes * kLanes + i % kLanes) * kLanes;
    FinishHead(y, s.sum[i], s.max[i], a.sink.Data<float>()[begin + i], channel_tiles, out);
  }
}

}  // namespace

Support SparseAttentionAmxSupports(const Context& ctx, const SparseAttention::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAmx), "needs AMX BF16");
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.q.dtype() == DType::kBF16, "q must be BF16");
  VX_REQUIRE(a.q.dim(2) % kTileChannels == 0, "d must be a multiple of 32");
  VX_REQUIRE(a.q.dim(2) <= kMaxChannels, "d must be at most 1024");
  return {};
}

Status SparseAttentionAmx(const Context& ctx, const SparseAttention::Args& a) {
  const int64_t n = a.q.dim(0), d = a.q.dim(2), all_groups = (a.q.dim(1) + kGroup - 1) / kGroup;
  const int64_t threads = ctx.threads ? ctx.threads->threads() : 1;
  const int64_t groups = n < threads ? 1 : all_groups, parts = all_groups / groups, items = n * parts;
  if (items == 0) return {};
  // Scratch for each piece of work, a few pieces per thread.
  const int64_t pieces = std::min(items, threads * 4), bytes = (Scratch::Bytes(groups, d) + 63) / 64 * 64;
  const Arena::Scope scope(*ctx.workspace);
  uint8_t* memory = ctx.workspace->Allocate<uint8_t>(pieces * bytes);
  ctx.For(pieces, 1, [&](int64_t begin, int64_t end) {
    const FullTiles tiles;
    for (int64_t piece = begin; piece < end; ++piece) {
      const Scratch scratch(memory + piece * bytes, groups, d);
      for (int64_t i = items * piece / pieces; i < items * (piece + 1) / pieces; ++i) {
        Attend(a, i / parts, i % parts * groups * kGroup, groups, scratch);
      }
    }
  });
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
