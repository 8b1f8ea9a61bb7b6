// Work is cut into items: rows of w by rows of x of one group, each over the whole of K. x is packed once per call: 16
// rows and 32 elements of K are a tile, [pair of elements][row].
//
// Up to 96 rows of x (BF16 w: 192, in two halves): their results with 16 rows of w (32, if 48 rows of x) fit into
// tiles. Short runs of w are decoded and multiplied with all of x at once; x comes from the second-level cache (L2).
//
// More rows of x: an item has up to 256 rows of w and up to 512 of x and goes through K in passes of 512 elements, each
// of which
//   1. decodes the rows of w into tiles: a panel of 256 KB, which stays in L2,
//   2. multiplies every 32 rows of x (32 KB, which stay in the first-level cache while the panel passes by) with every
//      32 rows of the panel, in four tiles of results. These are loaded from and stored to a buffer of up to 512 KB in
//      L2 between passes, which changes no bit of them.
// So multiplications read w from L2, and a byte of x comes from beyond L2 once per 256 rows of w. The results and rows
// of x that the next multiplication needs are asked for during this one.
#include "ops/linear/product_amx_blocked.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>

#include "ops/x86/amx_tiles.h"
#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AMX_ATTRIBUTES)
#include "ops/linear/bf16_values_avx512.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileElements = 32;          // of K
constexpr int64_t kBlockRows = 2 * kTileRows;  // of w, and of x: a block of results is 2 x 2 tiles
constexpr int64_t kDepth = 512;                // elements of K in a pass
constexpr int64_t kMostRows = 256;             // of w in an item
constexpr int64_t kMostTokens = 512;           // rows of x in an item
constexpr int64_t kTileFloats = kTileRows * kTileRows;
constexpr int64_t kBlockFloats = kBlockRows * kBlockRows;
constexpr int64_t kLine = 64;
constexpr int64_t kRun = 256;          // elements of a row that are decoded at a stretch
constexpr int64_t kAheadBytes = 512;   // of a row, between asking for codes and decoding them
constexpr int64_t kTokensAtOnce = 96;  // most rows of x whose results stay in tiles

constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// The packed rows of a group: blocks of 32 rows (the last of 16 if that is enough), in them [K / 32][tiles of 16 rows].
struct PackedRows {
  uint8_t* data;
  int64_t count, width;  // rows; K, a multiple of kStep

  int64_t TilesAt(int64_t row) const { return count - row > kTileRows ? 2 : 1; }
  // The tiles of block `row` (a multiple of 32) from element k on.
  uint8_t* At(int64_t row, int64_t k) const {
    return data + row * width * 2 + k / kTileElements * TilesAt(row) * kTileBytes;
  }
};
constexpr int64_t PackedBytes(int64_t count, int64_t width) { return RoundUp(count, kTileRows) * width * 2; }

struct Item {
  const ProductGroup* group;
  PackedRows x;
  int64_t row, rows;      // of w
  int64_t token, tokens;  // rows of x, from the group's first
};

// The largest items of a call.
struct ItemSize {
  int64_t rows, tokens;
};

// Groups whose items keep all results in tiles. BF16 weights are tiles where they lie, so that a second item with the
// same rows of w costs no second decoding; x still fits L2.
bool RunsAtOnce(const ProductGroup& g) {
  return g.end - g.begin <= (g.w->data.dtype() == DType::kBF16 ? 2 : 1) * kTokensAtOnce;
}

// `size` is that of groups with more rows.
ItemSize ItemSizeOf(const ProductGroup& g, ItemSize size) { return RunsAtOnce(g) ? ItemSize{64, kTokensAtOnce} : size; }

int64_t CountItems(const Product& p, ItemSize largest) {
  int64_t count = 0;
  for (const ProductGroup& g : p.groups) {
    const ItemSize size = ItemSizeOf(g, largest);
    count += CeilDiv(g.end - g.begin, size.tokens) * CeilDiv(p.columns(), size.rows);
  }
  return count;
}

// Large items read less, small ones keep all threads busy.
ItemSize ChooseItemSize(const Product& p, int64_t threads) {
  constexpr int64_t kItemsPerThread = 4, kLeastRows = 64, kLeastTokens = 128;
  int64_t most = 0;
  for (const ProductGroup& g : p.groups) most = std::max(most, g.end - g.begin);
  // With few rows of x there is little to gain from a panel that takes much of L2.
  ItemSize size = {most > kMostTokens / 2 ? kMostRows : kMostRows / 2, kMostTokens};
  while (CountItems(p, size) < kItemsPerThread * threads) {
    if (size.rows > kLeastRows) {
      size.rows /= 2;
    } else if (size.tokens > kLeastTokens) {
      size.tokens /= 2;
    } else {
      break;
    }
  }
  return size;
}

// 16 rows of x from `row` of the group on, as tiles. Zeros from K and from the last row on.
template <DType kFormat>
void PackTiles(const Product& p, const ProductGroup& g, const CodeRows& x, const PackedRows& packed, int64_t row) {
  const int64_t block = row / kBlockRows * kBlockRows, stride = packed.TilesAt(block) * kTileBytes;
  const int64_t count = std::min(kTileRows, packed.count - row), k = p.k();
  uint8_t* out = packed.At(block, 0) + (row - block) / kTileRows * kTileBytes;
  for (int64_t i = 0; i < k; i += kStep) {
    __m512i v[2][kTileRows];
    for (int64_t t = 0; t < kTileRows; ++t) {
      Bf16Pair e = {_mm512_setzero_si512(), _mm512_setzero_si512()};
      if (t < count) e = Decode<kFormat>::Get(x, p.RowOfX(g.begin + row + t), i, std::min(kStep, k - i));
      v[0][t] = e.v[0];
      v[1][t] = e.v[1];
    }
    for (__m512i* half : {v[0], v[1]}) {
      Transpose16(half);
      for (int64_t pair = 0; pair < kTileRows; ++pair) _mm512_store_si512(out + pair * kLine, half[pair]);
      out += stride;
    }
  }
}

std::span<const PackedRows> Pack(const Context& ctx, const Product& p) {
  struct Tile {
    const ProductGroup* group;
    const PackedRows* packed;
    int64_t row;
  };
  const int64_t width = RoundUp(p.k(), kStep);
  PackedRows* packed = ctx.workspace->Allocate<PackedRows>(int64_t(p.groups.size()));
  Tile* tiles = ctx.workspace->Allocate<Tile>(p.y.dim(0) / kTileRows + int64_t(p.groups.size()));
  int64_t count = 0;
  for (size_t g = 0; g < p.groups.size(); ++g) {
    const int64_t rows = p.groups[g].end - p.groups[g].begin;
    packed[g] = {ctx.workspace->Allocate<uint8_t>(PackedBytes(rows, width)), rows, width};
    for (int64_t row = 0; row < rows; row += kTileRows) tiles[count++] = {&p.groups[g], &packed[g], row};
  }
  const CodeRows x = CodeRowsOf(p.x);
  WithBf16Format(p.x.data.dtype(), [&](auto format) {
    ctx.For(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        PackTiles<decltype(format)::value>(p, *tiles[i].group, x, *tiles[i].packed, tiles[i].row);
      }
    });
  });
  return {packed, p.groups.size()};
}

std::span<const Item> ItemsOf(const Context& ctx, const Product& p, std::span<const PackedRows> x, ItemSize largest) {
  Item* items = ctx.workspace->Allocate<Item>(CountItems(p, largest));
  size_t count = 0;
  for (size_t g = 0; g < p.groups.size(); ++g) {
    const ItemSize size = ItemSizeOf(p.groups[g], largest);
    const int64_t n = x[g].count, chunk = RoundUp(CeilDiv(n, CeilDiv(n, size.tokens)), kBlockRows);
    for (int64_t row = 0; row < p.columns(); row += size.rows) {
      for (int64_t token = 0; token < n; token += chunk) {
        items[count++] = {
            &p.groups[g], x[g], row, std::min(size.rows, p.columns() - row), token, std::min(chunk, n - token)};
      }
    }
  }
  return {items, count};
}

// Where the codes are that are needed kAheadBytes of a row after element k of row `row`: at a row's end in the row
// `following` rows further on.
template <DType kFormat>
inline const uint8_t* CodesAhead(const CodeRows& w, int64_t row, int64_t following, int64_t k) {
  const int64_t offset = BytesOfElements(kFormat, k) + kAheadBytes;
  return offset < w.stride ? w.Row(row) + offset : w.Row(row + following) + offset - w.stride;
}
template <DType kFormat>
inline void PrefetchRun(const uint8_t* codes) {
  for (int64_t line = 0; line < BytesOfElements(kFormat, kRun); line += kLine) {
    _mm_prefetch(codes + line, _MM_HINT_T1);
  }
}

// Elements [k, k + depth) of `count` rows of w from `begin` on as tiles, [depth / 32][kTiles]; zeros where w has none.
// `depth` is at most kRun: short runs of each row in turn are read at the full speed of memory, whole rows one after
// the other are not. Asks for the codes ahead.
template <DType kFormat, int64_t kTiles>
void DecodeRun(const CodeRows& w, int64_t begin, int64_t count, int64_t following, int64_t k, int64_t depth,
               uint8_t* tiles) {
  const CodeRows codes = w;  // a copy that the stores below cannot change, as far as the compiler knows
  const uint8_t* ahead = CodesAhead<kFormat>(codes, begin, following, k);
  for (int64_t r = 0; r < kTiles * kTileRows; ++r, ahead += codes.stride) {
    uint8_t* out = tiles + r / kTileRows * kTileBytes + r % kTileRows * kLine;
    const auto store = [&](const Bf16Pair& p) {
      _mm512_store_si512(out, p.v[0]);
      _mm512_store_si512(out + kTiles * kTileBytes, p.v[1]);
      out += 2 * kTiles * kTileBytes;
    };
    if (r >= count) {
      for (int64_t i = 0; i < depth; i += kStep) store({_mm512_setzero_si512(), _mm512_setzero_si512()});
      continue;
    }
    PrefetchRun<kFormat>(ahead);
    if (depth == kRun) {
#pragma GCC unroll 4
      for (int64_t i = 0; i < kRun; i += kStep) store(Decode<kFormat>::Get(codes, begin + r, k + i, kStep));
    } else {
      for (int64_t i = 0; i < depth; i += kStep) {
        store(Decode<kFormat>::Get(codes, begin + r, k + i, std::min(kStep, depth - i)));
      }
    }
  }
}

// Elements [k, k + depth) of an item's rows of w: blocks of 32 rows, in them [depth / 32][2 tiles].
template <DType kFormat>
void DecodePanel(const Item& item, int64_t k, int64_t depth, uint8_t* panel) {
  const CodeRows codes = CodeRowsOf(*item.group->w);
  for (int64_t r = 0; r < item.rows; r += kBlockRows) {
    for (int64_t i = 0; i < depth; i += kRun) {
      DecodeRun<kFormat, 2>(codes, item.row + r, std::min(kBlockRows, item.rows - r), item.rows, k + i,
                            std::min(kRun, depth - i), panel + i * kBlockRows * 2);
    }
    panel += RoundUp(depth, kStep) * kBlockRows * 2;
  }
}

// What the next multiplication of two blocks reads, asked for a few lines at each step of this one.
class NextBlocks {
 public:
  // Its results, and `lines` lines of x in a step.
  NextBlocks(const float* results, const uint8_t* x, int64_t lines)
      : results_(reinterpret_cast<const uint8_t*>(results)), x_(x), lines_(lines) {}
  inline void Step() {
    for (int64_t i = 0; i < kResultLines; ++i, results_ += kLine) __builtin_prefetch(results_, 1);
    for (int64_t i = 0; i < lines_; ++i, x_ += kLine) _mm_prefetch(x_, _MM_HINT_T1);
  }

 private:
  static constexpr int64_t kResultLines = kBlockFloats * 4 / kLine / (kDepth / kTileElements);
  const uint8_t *results_, *x_;
  int64_t lines_;
};

// results [2 blocks of x][2 blocks of w][16 rows of w][16 rows of x] += 32 rows of w times 32 rows of x (16 unless
// kTwo), over `steps` tiles of K.
template <bool kTwo>
inline void MultiplyBlock(const uint8_t* w, const uint8_t* x, int64_t steps, bool first, float* results,
                          NextBlocks next) {
  if (first) {
    VX_TILE_ZERO(0);
    VX_TILE_ZERO(1);
    VX_TILE_ZERO(2);
    VX_TILE_ZERO(3);
  } else {
    VX_TILE_LOAD(0, results);
    VX_TILE_LOAD(1, results + kTileFloats);
    if constexpr (kTwo) {
      VX_TILE_LOAD(2, results + 2 * kTileFloats);
      VX_TILE_LOAD(3, results + 3 * kTileFloats);
    }
  }
  for (int64_t i = 0; i < steps; ++i, w += 2 * kTileBytes, x += (kTwo ? 2 : 1) * kTileBytes) {
    VX_TILE_LOAD(6, x);
    VX_TILE_LOAD_ONCE(4, w);
    VX_TILE_LOAD_ONCE(5, w + kTileBytes);
    VX_TILE_MULTIPLY(0, 4, 6);
    VX_TILE_MULTIPLY(1, 5, 6);
    next.Step();
    if constexpr (kTwo) {
      VX_TILE_LOAD(7, x + kTileBytes);
      VX_TILE_MULTIPLY(2, 4, 7);
      VX_TILE_MULTIPLY(3, 5, 7);
    }
  }
  VX_TILE_STORE(0, results, kLine);
  VX_TILE_STORE(1, results + kTileFloats, kLine);
  if constexpr (kTwo) {
    VX_TILE_STORE(2, results + 2 * kTileFloats, kLine);
    VX_TILE_STORE(3, results + 3 * kTileFloats, kLine);
  }
}

// Rounds results, [tiles of x][kTiles of w], of `tokens` rows of x (from row `token` of y on) and up to kTiles * 16
// rows of w (columns of y from `column` on).
template <class Y, int64_t kTiles>
void StoreBlock(const float* results, MutTensorView y, int64_t token, int64_t tokens, int64_t column, int64_t columns) {
  for (int64_t t = 0; t < tokens; t += kTileRows) {
    for (int64_t j = 0; j < kTiles * kTileRows; j += kTileRows, results += kTileFloats) {
      if (j >= columns) continue;
      __m512i v[kTileRows];
      for (int64_t r = 0; r < kTileRows; ++r) v[r] = _mm512_load_si512(results + r * kTileRows);
      Transpose16(v);
      for (int64_t r = 0; r < std::min(kTileRows, tokens - t); ++r) {
        StoreRounded(y.MutRow<Y>(token + t + r) + column + j, v[r], std::min(kTileRows, columns - j));
      }
    }
  }
}

// The memory of a thread.
struct Scratch {
  uint8_t* panel;
  float* results;
};

// All rows of x of an item times its panel, which holds [k, k + depth) of K.
template <class Y>
void MultiplyPanel(const Item& item, MutTensorView y, int64_t k, int64_t depth, const Scratch& scratch) {
  const int64_t steps = RoundUp(depth, kStep) / kTileElements, blocks = CeilDiv(item.rows, kBlockRows);
  const int64_t end = item.token + item.tokens;
  const bool first = k == 0, last = k + kDepth >= item.x.width;
  float* results = scratch.results;
  for (int64_t t = item.token; t < end; t += kBlockRows) {
    const uint8_t* x = item.x.At(t, k);
    // The rows of x that follow, in shares for each block of w.
    const bool wraps = t + kBlockRows >= end;
    const uint8_t* next_x = item.x.At(wraps ? item.token : t + kBlockRows, !wraps ? k : last ? 0 : k + kDepth);
    const int64_t share = CeilDiv(2 * kTileBytes / kLine, blocks);
    for (int64_t b = 0; b < blocks; ++b, results += kBlockFloats) {
      const uint8_t* w = scratch.panel + b * steps * 2 * kTileBytes;
      const NextBlocks next(results + kBlockFloats, next_x + b * share * steps * kLine, share);
      if (item.x.TilesAt(t) == 2) {
        MultiplyBlock<true>(w, x, steps, first, results, next);
      } else {
        MultiplyBlock<false>(w, x, steps, first, results, next);
      }
      if (last) {
        const int64_t column = b * kBlockRows;
        StoreBlock<Y, 2>(results, y, item.group->begin + t, std::min(kBlockRows, end - t), item.row + column,
                         std::min(kBlockRows, item.rows - column));
      }
    }
  }
}

// Passes over K: items of many rows of x.
template <DType kFormat, class Y>
void RunPasses(const Product& p, const Item& item, const Scratch& scratch) {
  for (int64_t k = 0; k < p.k(); k += kDepth) {
    const int64_t depth = std::min(kDepth, p.k() - k);
    DecodePanel<kFormat>(item, k, depth, scratch.panel);
    MultiplyPanel<Y>(item, p.y, k, depth, scratch);
  }
}

// f(tile) for tile = 0 .. kCount - 1, as constants.
template <int kCount, class F>
inline void ForTiles(F f) {
  [&]<int... kTile>(std::integer_sequence<int, kTile...>) { (f(std::integral_constant<int, kTile>()), ...); }
  (std::make_integer_sequence<int, kCount>());
}

// Up to kX tiles of x, whose results with kW tiles of w stay in tiles for the whole of K, kW * kX of them: w is
// multiplied as it is decoded.
template <DType kFormat, class Y, int kW, int kX>
void RunAtOnce(const Product& p, const Item& item, const Scratch& scratch) {
  static_assert(kW * kX <= 6, "two tiles are for operands");
  const CodeRows codes = CodeRowsOf(*item.group->w);
  for (int64_t row = 0; row < item.rows; row += kW * kTileRows) {
    const int64_t rows = std::min(kW * kTileRows, item.rows - row);
    ForTiles<kW * kX>([](auto c) { TileZero<c>(); });
    for (int64_t k = 0; k < p.k(); k += kRun) {
      const int64_t depth = std::min(kRun, p.k() - k);
      const uint8_t *w = scratch.panel, *x[kX];
      int64_t row_bytes = kLine, tile_bytes = kTileBytes, step_bytes = kW * kTileBytes;
      if (kFormat == DType::kBF16 && rows == kW * kTileRows && depth == kRun) {  // tiles where they lie
        w = codes.Row(item.row + row) + 2 * k;
        row_bytes = codes.stride, tile_bytes = kTileRows * codes.stride, step_bytes = kLine;
        const uint8_t* ahead = CodesAhead<kFormat>(codes, item.row + row, rows, k);
        for (int64_t r = 0; r < rows; ++r) PrefetchRun<kFormat>(ahead + r * codes.stride);
      } else {
        DecodeRun<kFormat, kW>(codes, item.row + row, rows, kW * kTileRows, k, depth, scratch.panel);
      }
      for (int64_t t = 0; t < kX; ++t) x[t] = item.x.At(item.token + t / 2 * kBlockRows, k) + t % 2 * kTileBytes;
      for (int64_t i = 0; i < depth; i += kTileElements) {
        ForTiles<kW>([&](auto j) {
          TileLoad<6>(w + j * tile_bytes, row_bytes);
          ForTiles<kX>([&](auto t) {
            TileLoad<7>(x[t] + i / kTileElements * item.x.TilesAt(item.token + t / 2 * kBlockRows) * kTileBytes);
            TileMultiply<t * kW + j, 6, 7>();
          });
        });
        w += step_bytes;
      }
    }
    ForTiles<kW * kX>([&](auto c) { TileStore<c>(scratch.results + c * kTileFloats); });
    StoreBlock<Y, kW>(scratch.results, p.y, item.group->begin + item.token, item.tokens, item.row + row, rows);
  }
}

template <DType kFormat, class Y>
void RunItem(const Product& p, const Item& item, const Scratch& scratch) {
  if (item.tokens > kTokensAtOnce) return RunPasses<kFormat, Y>(p, item, scratch);
  switch (CeilDiv(item.tokens, kTileRows)) {
    case 6:
      return RunAtOnce<kFormat, Y, 1, 6>(p, item, scratch);
    case 5:
      return RunAtOnce<kFormat, Y, 1, 5>(p, item, scratch);
    case 4:
      return RunAtOnce<kFormat, Y, 1, 4>(p, item, scratch);
    case 3:
      return RunAtOnce<kFormat, Y, 2, 3>(p, item, scratch);
    case 2:
      return RunAtOnce<kFormat, Y, 2, 2>(p, item, scratch);
    default:
      return RunAtOnce<kFormat, Y, 2, 1>(p, item, scratch);
  }
}

template <DType kFormat, class Y>
void RunProduct(const Context& ctx, const Product& p) {
  const std::span<const PackedRows> x = Pack(ctx, p);
  const ItemSize size = ChooseItemSize(p, SlotsOf(ctx));
  const std::span<const Item> items = ItemsOf(ctx, p, x, size);
  const int64_t panel_bytes = size.rows * kDepth * 2, result_floats = size.rows * size.tokens;
  uint8_t* panels = ctx.workspace->Allocate<uint8_t>(panel_bytes * SlotsOf(ctx));
  float* results = ctx.workspace->Allocate<float>(result_floats * SlotsOf(ctx));
  ForPieces(ctx, int64_t(items.size()), 1, [&](Slot slot, int64_t begin, int64_t end) {
    const FullTiles tiles;
    const Scratch scratch = {panels + slot * panel_bytes, results + slot * result_floats};
    for (int64_t i = begin; i < end; ++i) {
      RunItem<kFormat, Y>(p, items[size_t(i)], scratch);
    }
  });
}

}  // namespace
}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES

namespace vexil::cpu {

void MultiplyAmxBlocked(const Context& ctx, const Product& p) {
  WithBf16Format(p.groups[0].w->data.dtype(), [&](auto format) {
    if (p.y.dtype() == DType::kBF16) {
      RunProduct<decltype(format)::value, BF16>(ctx, p);
    } else {
      RunProduct<decltype(format)::value, float>(ctx, p);
    }
  });
}

}  // namespace vexil::cpu
#endif
