// The arithmetic of a part of a token's list of rows, on AMX tiles: scores, weights, weighted sums, merging, quotients.
//
// The rows of a part are read twice, the second time from the second cache: as they are (left operand of S^T = V Q^T,
// 16 entries x 32 channels a tile) and with neighbouring entries interleaved (right operand of Y = P V). Each block's
// product is merged into the sums of its part, which start at zero, and each part's into those before it, as online
// softmax does it.
// P is relative to the maximum of the whole list up to its block, as the op defines it, so the parts of a token need
// each other's scores but not each other's rows.
// Sums are f32: a dot product runs through the channels in ascending pairs in one chain, Y through the entries of a
// block in ascending pairs.
//
// Include inside HWY_PUSH_ATTRIBUTES(VX_AMX_ATTRIBUTES); local to each source, as ops/x86/avx512_math.h is.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <limits>
#include <span>

#include "ops/sparse_attention/rows.h"
#include "ops/sparse_attention/sparse_attention.h"
#include "ops/x86/amx_tiles.h"
#include "ops/x86/avx512_math.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kBlock = SparseAttention::kBlock;
constexpr int64_t kLanes = 16;         // heads in a vector, rows of a tile
constexpr int64_t kGroup = 32;         // heads whose products share the loaded tiles
constexpr int64_t kEntries = 32;       // entries whose products share the loaded tiles
constexpr int64_t kPart = 5 * kBlock;  // columns: half of a window of 128 and 512 picks
constexpr int64_t kTileChannels = 32;
constexpr int64_t kMaxChannels = 1024;
constexpr int64_t kFloats = kLanes * kLanes;

// Sizes of a call's pieces. Tiles are stored one after the other, 16 rows of 64 bytes.
struct Sizes {
  int64_t groups;         // of 32 heads, per item of work
  int64_t steps;          // tiles of 32 channels
  int64_t channel_tiles;  // tiles of 16 channels

  int64_t heads() const { return groups * kGroup; }
  int64_t group_floats() const { return channel_tiles * 2 * kFloats; }
  int64_t query_bytes() const { return groups * steps * 2 * kTileBytes; }
  int64_t key_bytes() const { return kEntries * steps * 64; }
  int64_t weight_bytes() const;  // of all groups
};

// The gathered entries of a part of the list, and their products with the heads of an item.
struct Part {
  float* scores;     // [entry][heads]
  float* block_top;  // [block][heads] largest logit of a block
  float* top;        // [heads] of all blocks
  struct Block {
    int64_t first, used;  // of the rows; the next block begins at a multiple of 32
  };
  Block blocks[kPart / kBlock];  // those with a row
  const BF16* rows[kPart];       // zero rows after the used ones of a block
  int64_t num_blocks = 0, num_rows = 0;

  static int64_t Bytes(const Sizes& z) { return (kPart + kPart / kBlock + 1) * z.heads() * 4; }
  Part(uint8_t* memory, const Sizes& z)
      : scores(reinterpret_cast<float*>(memory)),
        block_top(scores + kPart * z.heads()),
        top(block_top + kPart / kBlock * z.heads()) {}
};

// The weights of a part for 32 heads.
struct Weights {
  uint8_t p[kPart / kEntries][2][kTileBytes];  // heads by entry, BF16
  float keep[kPart / kBlock][kGroup];          // what a block leaves of the sums before it
};

int64_t Sizes::weight_bytes() const { return groups * int64_t(sizeof(Weights)); }

// The weighted sums of a part.
struct Sums {
  float* y;      // [group][channel tile][2][head][16]
  float* max;    // [heads] M at the end of the part
  float* sum;    // [heads] Z of the part
  float* carry;  // [heads] what the part leaves of the sums before it

  static int64_t Bytes(const Sizes& z) { return (z.groups * z.group_floats() + 3 * z.heads()) * 4; }
  Sums(uint8_t* memory, const Sizes& z)
      : y(reinterpret_cast<float*>(memory)),
        max(y + z.groups * z.group_floats()),
        sum(max + z.heads()),
        carry(sum + z.heads()) {}
};

// The rows that columns [begin, begin + kPart) name, without the -1.
void ListRows(const SparseAttention::Args& a, int64_t t, int64_t begin, const BF16* zero_row, Part& part) {
  const int32_t* list = a.rows.Row<int32_t>(t);
  const int64_t end = std::min(begin + kPart, a.rows.dim(1));
  for (int64_t j = begin; j < end; j += kBlock) {
    const int64_t first = part.num_rows;
    for (int64_t i = j; i < std::min(j + kBlock, end); ++i) {
      if (list[i] >= 0) part.rows[part.num_rows++] = RowAt<BF16>(a, list[i]);
    }
    if (part.num_rows == first) continue;
    part.blocks[part.num_blocks++] = {first, part.num_rows - first};
    while (part.num_rows % kEntries != 0) part.rows[part.num_rows++] = zero_row;
  }
}

// 32 rows as they are. A core fetches from many rows side by side at twice the rate of one row after the other, and
// faster than it serves prefetches.
void GatherKeys(const BF16* const* rows, int64_t steps, uint8_t* keys) {
  for (int64_t c = 0; c < steps; ++c) {
    for (int64_t e = 0; e < kEntries; ++e) {
      _mm512_store_si512(keys + (c * kEntries + e) * 64, _mm512_loadu_si512(rows[e] + c * kTileChannels));
    }
  }
}

// 32 channels of all rows of a part, neighbours interleaved: [32 entries][2 x 16 channels].
void GatherValues(const Part& part, int64_t step, uint8_t* values) {
  for (int64_t e = 0; e < part.num_rows; e += 2) {
    const __m512i v0 = _mm512_loadu_si512(part.rows[e] + step * kTileChannels);
    const __m512i v1 = _mm512_loadu_si512(part.rows[e + 1] + step * kTileChannels);
    uint8_t* out = values + e / kEntries * 2 * kTileBytes + e % kEntries / 2 * 64;
    _mm512_store_si512(out, _mm512_unpacklo_epi16(v0, v1));
    _mm512_store_si512(out + kTileBytes, _mm512_unpackhi_epi16(v0, v1));
  }
}

// Packs an item's heads from `begin` on as [group][channel step][2]: pairs of channels by head. Heads beyond the last
// are zero.
void PackQueries(const SparseAttention::Args& a, int64_t t, int64_t begin, const Sizes& z, uint8_t* q) {
  const int64_t heads = a.q.dim(1);
  for (int64_t tile = 0; tile < 2 * z.groups; ++tile) {
    for (int64_t c = 0; c < z.steps; ++c) {
      __m512i r[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const int64_t h = begin + tile * kLanes + i;
        r[i] = h < heads ? _mm512_loadu_si512(a.q.Row<BF16>(t) + h * a.q.stride(1) + c * kTileChannels)
                         : _mm512_setzero_si512();
      }
      Transpose16(r);
      uint8_t* out = q + ((tile / 2 * z.steps + c) * 2 + tile % 2) * kTileBytes;
      for (int64_t i = 0; i < kLanes; ++i) _mm512_store_si512(out + i * 64, r[i]);
    }
  }
}

// scores[entry][head] = row . q for 32 entries and a group of heads.
void Scores(const uint8_t* keys, const uint8_t* q, const Sizes& z, float* scores) {
  const int64_t row_bytes = z.heads() * 4;
  VX_TILE_ZERO(0);
  VX_TILE_ZERO(1);
  VX_TILE_ZERO(2);
  VX_TILE_ZERO(3);
  for (int64_t c = 0; c < z.steps; ++c) {
    VX_TILE_LOAD(4, keys + 2 * c * kTileBytes);
    VX_TILE_LOAD(6, q + 2 * c * kTileBytes);
    VX_TILE_MULTIPLY(0, 4, 6);
    VX_TILE_LOAD(7, q + (2 * c + 1) * kTileBytes);
    VX_TILE_MULTIPLY(1, 4, 7);
    VX_TILE_LOAD(5, keys + (2 * c + 1) * kTileBytes);
    VX_TILE_MULTIPLY(2, 5, 6);
    VX_TILE_MULTIPLY(3, 5, 7);
  }
  VX_TILE_STORE(0, scores, row_bytes);
  VX_TILE_STORE(1, scores + kLanes, row_bytes);
  VX_TILE_STORE(2, scores + kLanes * z.heads(), row_bytes);
  VX_TILE_STORE(3, scores + kLanes * z.heads() + kLanes, row_bytes);
}

// The largest logit of a block for 16 heads.
__m512 MaxLogit(const Part& part, const Part::Block& block, int64_t head, float scale, const Sizes& z) {
  const float* scores = part.scores + block.first * z.heads() + head;
  __m512 max = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < block.used; ++j) {
    const __m512 l = _mm512_mul_ps(_mm512_loadu_ps(scores + j * z.heads()), _mm512_set1_ps(scale));
    max = _mm512_max_ps(l, max);  // the second where one is NaN, as std::max
  }
  return max;
}

// First step: multiplies the rows of a part by the queries.
void ScorePart(const Part& part, const uint8_t* q, float scale, const Sizes& z, uint8_t* keys) {
  for (int64_t e = 0; e < part.num_rows; e += kEntries) {
    GatherKeys(part.rows + e, z.steps, keys);
    for (int64_t g = 0; g < z.groups; ++g) {
      Scores(keys, q + g * z.steps * 2 * kTileBytes, z, part.scores + e * z.heads() + g * kGroup);
    }
  }
  for (int64_t h = 0; h < z.heads(); h += kLanes) {
    __m512 top = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    for (int64_t b = 0; b < part.num_blocks; ++b) {
      const __m512 block_top = MaxLogit(part, part.blocks[b], h, scale, z);
      _mm512_storeu_ps(part.block_top + b * z.heads() + h, block_top);
      top = _mm512_max_ps(block_top, top);
    }
    _mm512_storeu_ps(part.top + h, top);
  }
}

// exp(logit - max) of entry j for 16 heads; 0 beyond the block's rows.
inline __m512 Weight(const float* scores, int64_t j, int64_t used, float scale, __m512 max, const Sizes& z) {
  if (j >= used) return _mm512_setzero_ps();
  return Exp16(_mm512_sub_ps(_mm512_mul_ps(_mm512_loadu_ps(scores + j * z.heads()), _mm512_set1_ps(scale)), max));
}

// The online softmax of a block for 16 heads: moves max and sum, writes P by head and what to keep.
void AddBlock(const Part& part, int64_t b, int64_t head, float scale, const Sizes& z, Weights& w, __m512& max,
              __m512& sum) {
  const __m512i interleave =
      _mm512_setr_epi32(0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007, 0x180008,
                        0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f);
  const Part::Block& block = part.blocks[b];
  const int64_t tile = head % kGroup / kLanes;
  const float* scores = part.scores + block.first * z.heads() + head;
  const __m512 before = max;
  max = _mm512_max_ps(_mm512_loadu_ps(part.block_top + b * z.heads() + head), before);
  __m512 block_sum = _mm512_setzero_ps();
  for (int64_t e = 0; e < block.used; e += kEntries) {
    __m512i pairs[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      const __m512 first = Weight(scores, e + 2 * i, block.used, scale, max, z);
      const __m512 second = Weight(scores, e + 2 * i + 1, block.used, scale, max, z);
      block_sum = _mm512_add_ps(_mm512_add_ps(block_sum, first), second);
      pairs[i] = _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(second, first));
    }
    Transpose16(pairs);
    uint8_t* p = w.p[(block.first + e) / kEntries][tile];
    for (int64_t i = 0; i < kLanes; ++i) _mm512_store_si512(p + i * 64, pairs[i]);
  }
  const __m512 keep = Exp16(_mm512_sub_ps(before, max));
  sum = _mm512_fmadd_ps(sum, keep, block_sum);
  _mm512_store_ps(w.keep[b] + tile * kLanes, keep);
}

// The weights of a group of heads from `head` on; s.max is the maximum over the parts before.
void Softmax(const Part& part, int64_t head, float scale, const Sizes& z, Weights& w, const Sums& s) {
  for (int64_t h = head; h < head + kGroup; h += kLanes) {
    const __m512 before = _mm512_loadu_ps(s.max + h);
    __m512 max = before, sum = _mm512_setzero_ps();
    for (int64_t b = 0; b < part.num_blocks; ++b) AddBlock(part, b, h, scale, z, w, max, sum);
    _mm512_storeu_ps(s.max + h, max);
    _mm512_storeu_ps(s.sum + h, sum);
    _mm512_storeu_ps(s.carry + h, Exp16(_mm512_sub_ps(before, max)));
  }
}

// A sum over some rows, and over some more.
inline __m512 Merged(__m512 before, float keep, __m512 more) {
  return _mm512_fmadd_ps(before, _mm512_set1_ps(keep), more);
}

// A block's product that is still to be merged into the sums of its part: a little after each tile product of the next
// block, since merging at once would wait for the tiles to be stored, and hold up what comes after.
class PendingMerge {
 public:
  PendingMerge() = default;
  PendingMerge(const float* product, const float* keep, float* sums) : product_(product), keep_(keep), sums_(sums) {}

  void Some() {
    constexpr int64_t kHeads = kGroup / 8;  // a block of 64 rows has eight tile products
    if (head_ < kGroup && sums_ != nullptr) Merge(kHeads);
  }
  void Rest() {
    while (head_ < kGroup && sums_ != nullptr) Merge(1);
  }

 private:
  void Merge(int64_t heads) {
    for (int64_t h = head_; h < head_ + heads; ++h) {
      for (int64_t at : {h * kLanes, 2 * kFloats + h * kLanes}) {
        _mm512_store_ps(sums_ + at, Merged(_mm512_load_ps(sums_ + at), keep_[h], _mm512_load_ps(product_ + at)));
      }
    }
    head_ += heads;
  }

  const float *product_ = nullptr, *keep_ = nullptr;
  float* sums_ = nullptr;
  int64_t head_ = 0;
};

// product = P V of one block for a group of heads and 32 channels: [2 channel tiles][2][head][16].
void MultiplyBlock(const Part::Block& block, const Weights& w, const uint8_t* values, PendingMerge before,
                   float* product) {
  VX_TILE_ZERO(0);
  VX_TILE_ZERO(1);
  VX_TILE_ZERO(2);
  VX_TILE_ZERO(3);
  for (int64_t e = block.first; e < block.first + block.used; e += kEntries) {
    VX_TILE_LOAD(4, w.p[e / kEntries][0]);
    VX_TILE_LOAD(6, values + e / kEntries * 2 * kTileBytes);
    VX_TILE_MULTIPLY(0, 4, 6);
    before.Some();
    VX_TILE_LOAD(5, w.p[e / kEntries][1]);
    VX_TILE_MULTIPLY(1, 5, 6);
    before.Some();
    VX_TILE_LOAD(7, values + (e / kEntries * 2 + 1) * kTileBytes);
    VX_TILE_MULTIPLY(2, 4, 7);
    before.Some();
    VX_TILE_MULTIPLY(3, 5, 7);
    before.Some();
  }
  before.Rest();
  VX_TILE_STORE(0, product, 64);
  VX_TILE_STORE(1, product + kFloats, 64);
  VX_TILE_STORE(2, product + 2 * kFloats, 64);
  VX_TILE_STORE(3, product + 3 * kFloats, 64);
}

// y = P V of a part for all heads of an item.
void AddValues(const Part& part, const Weights* w, const Sizes& z, float* y) {
  alignas(64) uint8_t values[kPart / kEntries * 2 * kTileBytes];
  alignas(64) float products[2][4 * kFloats];
  PendingMerge pending;
  for (int64_t c = 0; c < z.steps; ++c) {
    GatherValues(part, c, values);
    for (int64_t g = 0; g < z.groups; ++g) {
      float* sums = y + g * z.group_floats() + c * 4 * kFloats;
      for (int64_t b = 0; b < part.num_blocks; ++b) {
        float* product = b == 0 ? sums : products[b % 2];
        MultiplyBlock(part.blocks[b], w[g], values, pending, product);
        pending = b == 0 ? PendingMerge() : PendingMerge(product, w[g].keep[b], sums);
      }
    }
  }
  pending.Rest();
}

// Second step: weights and weighted sums. s.max is the maximum over the parts before, at first.
void SumPart(const Part& part, float scale, const Sizes& z, Weights* w, const Sums& s) {
  for (int64_t g = 0; g < z.groups; ++g) Softmax(part, g * kGroup, scale, z, w[g], s);
  AddValues(part, w, z, s.y);
}

// Adds the part that `s` is of to the parts before it.
void Merge(const Sums& s, const Sizes& z, const Sums& before) {
  for (int64_t g = 0; g < z.groups; ++g) {
    for (int64_t i = 0; i < z.group_floats(); i += kLanes) {
      float* y = before.y + g * z.group_floats() + i;
      const float carry = s.carry[g * kGroup + i / kLanes % kGroup];
      _mm512_store_ps(y, Merged(_mm512_load_ps(y), carry, _mm512_load_ps(s.y + g * z.group_floats() + i)));
    }
  }
  for (int64_t h = 0; h < z.heads(); h += kLanes) {
    const __m512 carry = _mm512_loadu_ps(s.carry + h);
    _mm512_storeu_ps(before.sum + h,
                     _mm512_fmadd_ps(_mm512_loadu_ps(before.sum + h), carry, _mm512_loadu_ps(s.sum + h)));
    _mm512_storeu_ps(before.max + h, _mm512_loadu_ps(s.max + h));
  }
}

// The quotients of `count` heads from head i of an item on, all in one tile, merged from at least one part; channels
// back in their order.
void Divide(std::span<const Sums> parts, int64_t i, int64_t count, const float* sink, const Sizes& z, BF16* out,
            int64_t stride) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  float denominator[kLanes];
  for (int64_t h = 0; h < count; ++h) {
    __m512 sum = _mm512_set1_ps(parts[0].sum[i + h]);
    for (const Sums& s : parts.subspan(1)) sum = Merged(sum, s.carry[i + h], _mm512_set1_ps(s.sum[i + h]));
    sum = _mm512_add_ps(sum, Exp16(_mm512_set1_ps(sink[h] - parts.back().max[i + h])));
    denominator[h] = _mm512_cvtss_f32(sum);
  }
  for (int64_t c = 0; c < z.steps; ++c) {
    for (int64_t h = 0; h < count; ++h) {
      const int64_t at = i / kGroup * z.group_floats() + c * 4 * kFloats + (i + h) % kGroup * kLanes;
      __m512 low = _mm512_load_ps(parts[0].y + at), high = _mm512_load_ps(parts[0].y + at + 2 * kFloats);
      for (const Sums& s : parts.subspan(1)) {
        low = Merged(low, s.carry[i + h], _mm512_load_ps(s.y + at));
        high = Merged(high, s.carry[i + h], _mm512_load_ps(s.y + at + 2 * kFloats));
      }
      low = _mm512_div_ps(low, _mm512_set1_ps(denominator[h]));
      high = _mm512_div_ps(high, _mm512_set1_ps(denominator[h]));
      BF16* channels = out + h * stride + c * kTileChannels;
      StoreBf16(channels, _mm512_permutex2var_ps(low, first, high));
      StoreBf16(channels + kLanes, _mm512_permutex2var_ps(low, second, high));
    }
  }
}

// Heads [begin, end) of token t, which an item has from head `first` on; without parts the token lists no row.
void Finish(const SparseAttention::Args& a, int64_t t, int64_t first, int64_t begin, int64_t end,
            std::span<const Sums> parts, const Sizes& z) {
  for (int64_t h = begin; h < std::min(end, a.q.dim(1)); h += kLanes) {
    const int64_t count = std::min(kLanes, a.q.dim(1) - h), stride = a.y.stride(1);
    BF16* out = a.y.MutRow<BF16>(t) + h * stride;
    if (!parts.empty()) {
      Divide(parts, h - first, count, a.sink.Data<float>() + h, z, out, stride);
    } else {
      for (int64_t i = 0; i < count; ++i) std::fill_n(out + i * stride, a.q.dim(2), BF16{});
    }
  }
}

void StartMax(const Sums& s, const Sizes& z) { std::fill_n(s.max, z.heads(), -std::numeric_limits<float>::infinity()); }

}  // namespace
}  // namespace vexil::cpu
