// W8A8. Items are blocks of 32 rows of w. A block is copied, a run of 512 codes of each row at a time, into a panel in
// tiles' order, and each run is multiplied with the first 32 rows of x as it is copied: with few rows of x, w is read
// once, at the speed of memory. Further rows of x read the panel from the second-level cache. Four tiles hold the sums
// of 32 x 32 results for the whole of K; int32 sums are exact, so their order does not matter.
//
// x is packed once per call: 16 rows and 64 codes are a tile, [four codes][row].
#include "ops/linear/product_amx_int8.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>

#include "ops/x86/amx_tiles.h"
#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AMX_ATTRIBUTES ",amx-int8")
#include "ops/linear/bf16_values_avx512.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kBlockRows = 2 * kTileRows;
constexpr int64_t kLine = 64;  // bytes, and codes of K in a tile
constexpr int64_t kRun = 512;
constexpr int64_t kAhead = 512;  // codes of a row, between asking for them and copying them

// Up to 32 rows of x as tiles, [K / 64][2].
struct InputBlock {
  uint8_t* tiles;
  int64_t begin, count;  // rows of y
};

// c += a b, int8 by int8.
template <int kC, int kA, int kB>
inline void TileMultiplyInt8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB) :);
}

inline __m512i LoadCodes(const void* p, int64_t valid) {
  return valid >= kLine ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(FirstBits(valid), p);
}

void PackBlock(const Product& p, const InputBlock& b) {
  for (int64_t half = 0; half < 2; ++half) {
    uint8_t* out = b.tiles + half * kTileBytes;
    for (int64_t k = 0; k < p.k(); k += kLine, out += 2 * kTileBytes) {
      __m512i v[kTileRows];
      for (int64_t t = 0; t < kTileRows; ++t) {
        const int64_t i = half * kTileRows + t;
        v[t] = i < b.count ? LoadCodes(p.x.data.Row<int8_t>(p.RowOfX(b.begin + i)) + k, p.k() - k)
                           : _mm512_setzero_si512();
      }
      Transpose16(v);
      for (int64_t four = 0; four < kTileRows; ++four) _mm512_store_si512(out + four * kLine, v[four]);
    }
  }
}

// The packed x of a call.
struct PackedInput {
  std::span<const InputBlock> blocks;
  std::span<const int64_t> first_block;  // of each group
};

PackedInput Pack(const Context& ctx, const Product& p) {
  const int64_t groups = int64_t(p.groups.size()), block_bytes = CeilDiv(p.k(), kLine) * 2 * kTileBytes;
  int64_t* first = ctx.workspace->Allocate<int64_t>(groups);
  InputBlock* blocks = ctx.workspace->Allocate<InputBlock>(p.y.dim(0) / kBlockRows + groups);
  int64_t count = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const ProductGroup& group = p.groups[size_t(g)];
    first[g] = count;
    for (int64_t i = group.begin; i < group.end; i += kBlockRows) {
      blocks[count++] = {ctx.workspace->Allocate<uint8_t>(block_bytes), i, std::min(kBlockRows, group.end - i)};
    }
  }
  ctx.For(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) PackBlock(p, blocks[i]);
  });
  return {{blocks, size_t(count)}, {first, size_t(groups)}};
}

// 32 rows of w, fewer at its end.
struct WeightBlock {
  const QuantView* w;
  int64_t begin, count;
};

// Codes [k, k + kRun) as tiles, [codes / 64][2]; zeros where w has none.
void CopyRun(const WeightBlock& b, int64_t k, uint8_t* panel) {
  const int64_t width = b.w->Columns(), end = std::min(width, k + kRun);
  for (int64_t r = 0; r < kBlockRows; ++r) {
    uint8_t* out = panel + r / kTileRows * kTileBytes + r % kTileRows * kLine;
    const int8_t* codes = b.w->data.Row<int8_t>(std::min(b.begin + r, b.w->data.dim(0) - 1));
    // At a row's end those of the row 32 further on.
    const int8_t* ahead = codes + k + kAhead + (k + kAhead < width ? 0 : (kBlockRows - 1) * width);
    for (int64_t i = 0; i < kRun; i += kLine) _mm_prefetch(ahead + i, _MM_HINT_T1);
    for (int64_t i = k; i < end; i += kLine, out += 2 * kTileBytes) {
      _mm512_store_si512(out, r < b.count ? LoadCodes(codes + i, end - i) : _mm512_setzero_si512());
    }
  }
}

// y = (f32(sum) * scale of x) * scale of w for results of up to 16 rows of x, `sums` [16 rows of w][16 rows of x].
template <class Y>
void StoreSums(const Product& p, const QuantView& w, const int32_t* sums, int64_t begin, int64_t count, int64_t column,
               int64_t columns) {
  const __mmask16 mask = __mmask16(FirstBits(columns));
  const __m512 w_scale =
      w.scale.dtype() == DType::kF32
          ? _mm512_maskz_loadu_ps(mask, w.scale.Data<float>() + column)
          : __m512(_mm512_slli_epi32(
                _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, w.scale.Data<BF16>() + column)), 16));
  __m512i v[kTileRows];
  for (int64_t r = 0; r < kTileRows; ++r) v[r] = _mm512_load_si512(sums + r * kTileRows);
  Transpose16(v);
  for (int64_t t = 0; t < count; ++t) {
    const __m512 x_scale = _mm512_set1_ps(p.x.scale.Data<float>()[p.RowOfX(begin + t)]);
    const __m512 y = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(v[t]), x_scale), w_scale);
    StoreRounded(p.y.MutRow<Y>(begin + t) + column, __m512i(y), columns);
  }
}

// A block of w times a block of x; copies w to the panel first if `copy`.
template <class Y>
void MultiplyBlock(const Product& p, const WeightBlock& w, const InputBlock& x, bool copy, uint8_t* panel) {
  TileZero<0>();
  TileZero<1>();
  TileZero<2>();
  TileZero<3>();
  const uint8_t *a = panel, *b = x.tiles;
  const bool two = x.count > kTileRows;
  for (int64_t k = 0; k < p.k(); k += kLine, a += 2 * kTileBytes, b += 2 * kTileBytes) {
    if (copy && k % kRun == 0) CopyRun(w, k, panel + k * kBlockRows);
    TileLoad<6>(b);
    TileLoad<4>(a);
    TileLoad<5>(a + kTileBytes);
    TileMultiplyInt8<0, 4, 6>();
    TileMultiplyInt8<1, 5, 6>();
    if (!two) continue;
    TileLoad<7>(b + kTileBytes);
    TileMultiplyInt8<2, 4, 7>();
    TileMultiplyInt8<3, 5, 7>();
  }
  alignas(64) int32_t sums[4][kTileRows * kTileRows];
  TileStore<0>(sums[0]);
  TileStore<1>(sums[1]);
  TileStore<2>(sums[2]);
  TileStore<3>(sums[3]);
  for (int64_t half = 0; half < (two ? 2 : 1); ++half) {
    for (int64_t j = 0; j < w.count; j += kTileRows) {
      StoreSums<Y>(p, *w.w, sums[half * 2 + j / kTileRows], x.begin + half * kTileRows,
                   std::min(kTileRows, x.count - half * kTileRows), w.begin + j, std::min(kTileRows, w.count - j));
    }
  }
}

template <class Y>
void RunProduct(const Context& ctx, const Product& p) {
  const PackedInput x = Pack(ctx, p);
  const int64_t per_group = CeilDiv(p.columns(), kBlockRows), panel_bytes = CeilDiv(p.k(), kLine) * 2 * kTileBytes;
  uint8_t* panels = ctx.workspace->Allocate<uint8_t>(panel_bytes * SlotsOf(ctx));
  const int64_t grain = std::max<int64_t>(1, kPieceBytes / (kBlockRows * p.k()));
  ForPieces(ctx, int64_t(p.groups.size()) * per_group, grain, [&](Slot slot, int64_t begin, int64_t end) {
    const FullTiles tiles;
    for (int64_t item = begin; item < end; ++item) {
      const size_t g = size_t(item / per_group);
      const int64_t row = item % per_group * kBlockRows, n = p.groups[g].end - p.groups[g].begin;
      const WeightBlock w = {p.groups[g].w, row, std::min(kBlockRows, p.columns() - row)};
      for (int64_t b = 0; b < CeilDiv(n, kBlockRows); ++b) {
        MultiplyBlock<Y>(p, w, x.blocks[size_t(x.first_block[g] + b)], b == 0, panels + slot * panel_bytes);
      }
    }
  });
}

}  // namespace
}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES

namespace vexil::cpu {

Support AmxInt8Supports(const Context& ctx, const QuantView& x, const QuantView& w) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAmx), "no AMX here, or --cpu-isa forbids it");
  VX_REQUIRE(x.data.dtype() == DType::kI8 && w.data.dtype() == DType::kI8, "only I8 by I8");
  return {};
}

Status MultiplyAmxInt8(const Context& ctx, const Product& p) {
  if (p.groups.empty()) return {};
  p.y.dtype() == DType::kBF16 ? RunProduct<BF16>(ctx, p) : RunProduct<float>(ctx, p);
  return {};
}

}  // namespace vexil::cpu
#endif
