// Weights are the left operand of TDPBF16PS: a tile is 16 rows of w by 32 elements of K, as they lie in memory, so a
// BF16 weight is loaded from the mapping and the other formats are decoded in front of the multiplication. The right
// operand is 16 pairs of elements of K by up to 16 rows of x, packed once per call. A result is then the same sequence
// of instructions for one row of x and for thousands.
//
// Few rows (up to 32): every thread streams blocks of 32 rows of w, decodes 128 or 256 elements of K of each row at a
// time and multiplies them; w is read once. Groups of more rows: product_amx_blocked.cc.
#include "ops/linear/product_amx.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>

#include "ops/linear/product_amx_blocked.h"
#include "ops/x86/attributes.h"

namespace vexil::cpu {
namespace {
constexpr int64_t kBlockRows = 32;     // rows of w per item: two tiles, so that two chains of multiplications overlap
constexpr int64_t kStreamedRows = 32;  // most rows of x that are multiplied as w is decoded

// Up to 16 rows of x, packed: [K/2 pairs][count] words of 32 bits.
struct InputBlock {
  const uint8_t* data;
  int64_t begin, count;  // rows of y
};

}  // namespace
}  // namespace vexil::cpu

HWY_PUSH_ATTRIBUTES(VX_AMX_ATTRIBUTES)
#include "ops/linear/decode_run_amx.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kAheadBytesInPlace = 512;  // of a row, between asking for codes and multiplying them
// Codes of the next block of rows are asked for in this many sequences: with one, the processor's prefetcher stops at
// the end of every page; with one per row, it has more to follow than it can.
constexpr int64_t kSequences = 4;

// Steps that are decoded before they are multiplied, and whether they are multiplied during the decoding of the next.
// Tiles of 16 KB leave room in the first-level cache for codes, scales and x: what they displace costs the processor a
// line buffer each time, and those are most likely what bounds reading.
constexpr int64_t GroupOf(DType format) { return format == DType::kE2M1x2 ? 4 : 2; }
constexpr bool MultipliesBehind(DType format) { return format != DType::kE2M1x2; }

// Tile registers: results c[w tile][x block], operands.
#define VX_C00 "%%tmm0"
#define VX_C01 "%%tmm1"
#define VX_C10 "%%tmm2"
#define VX_C11 "%%tmm3"
#define VX_W0 "%%tmm4"
#define VX_W1 "%%tmm5"
#define VX_X0 "%%tmm6"
#define VX_X1 "%%tmm7"
// The compiler knows nothing of tiles: memory operands are ordered by the clobber.
#define VX_TILE_LOAD(tile, p, stride) \
  asm volatile("tileloadd (%0,%1,1), " tile : : "r"(p), "r"(int64_t(stride)) : "memory")
#define VX_TILE_STORE(tile, p, stride) \
  asm volatile("tilestored " tile ", (%0,%1,1)" : : "r"(p), "r"(int64_t(stride)) : "memory")
#define VX_TILE_MULTIPLY(c, w, x) asm volatile("tdpbf16ps " x ", " w ", " c : : :)
#define VX_TILE_ZERO(c) asm volatile("tilezero " c : : :)

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Shapes for blocks of n0 and n1 rows of x; clears the tiles.
void Configure(int64_t n0, int64_t n1) {
  TileConfig c;
  const int64_t columns[8] = {n0, n1, n0, n1, 16, 16, n0, n1};
  for (int i = 0; i < 8; ++i) {
    c.rows[i] = columns[i] ? 16 : 0;
    c.row_bytes[i] = uint16_t(4 * columns[i]);
  }
  asm volatile("ldtilecfg %0" : : "m"(c));
}
void ReleaseTiles() { asm volatile("tilerelease" : : :); }

// y[begin + t, j + r] = sums[r][t] for t < count, r < columns; `stride` floats between rows of sums.
template <class Y>
void StoreSums(const float* sums, int64_t stride, MutTensorView y, int64_t begin, int64_t count, int64_t j,
               int64_t columns) {
  if (count == 1) {  // stride 1: already a row
    StoreRounded(y.MutRow<Y>(begin) + j, _mm512_loadu_si512(sums), columns);
    return;
  }
  __m512i v[16];
  for (int r = 0; r < 16; ++r) v[r] = _mm512_maskz_loadu_epi32(__mmask16(FirstBits(count)), sums + r * stride);
  Transpose16(v);
  for (int64_t t = 0; t < count; ++t) StoreRounded(y.MutRow<Y>(begin + t) + j, v[t], columns);
}

// A weight and 32 of its rows.
struct WeightBlock {
  CodeRows rows;
  int64_t begin, count, k;
  const uint8_t *next_codes, *next_scales;  // of the block that follows, to be prefetched
};

// Decodes elements [k, k + 64) of up to 32 rows into four tiles, [half of the elements][half of the rows]; zeros where
// w has none.
template <DType kFormat>
void DecodeEdge(const WeightBlock& w, int64_t k, uint8_t* tiles) {
  const CodeRows rows = w.rows;  // a copy that the stores below cannot change, as far as the compiler knows
  const int64_t begin = w.begin, count = w.count, valid = std::min(kStep, w.k - k);
  for (int64_t r = 0; r < kBlockRows; ++r) {
    Bf16Pair p = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    if (r < count) p = Decode<kFormat>::Get(rows, begin + r, k, valid);
    uint8_t* out = tiles + r / kTileRows * kTileBytes + r % kTileRows * 64;
    _mm512_store_si512(out, p.v[0]);
    _mm512_store_si512(out + 2 * kTileBytes, p.v[1]);
  }
}

// Decodes kCount whole steps from element k on, a row at a time: a row's codes are then read as a short run, which
// costs the processor less than a line of each of 32 rows in turn. Asks for as many codes and scales of the next block.
// Calls between(i) after each of 2 kCount equal parts of the rows.
template <DType kFormat, int64_t kCount, class Between>
inline void DecodeSteps(const WeightBlock& w, int64_t k, uint8_t* tiles, const Between& between) {
  constexpr int64_t kRowsOfSequence = kBlockRows / kSequences;
  const CodeRows rows = w.rows;  // a copy that the stores below cannot change, as far as the compiler knows
  const int64_t offset = BytesOfElements(kFormat, k), bytes = BytesOfElements(kFormat, kCount * kStep);
  const uint8_t* next = w.next_codes + kRowsOfSequence * offset;
  const uint8_t* codes = rows.Row(w.begin) + offset;
  const uint8_t* scales = rows.ScaleRow(w.begin) + ScaleOffset(kFormat, k);
  const int64_t scale_stride = rows.block_shift == 0 ? rows.scale_stride : 0;  // a block lies inside a tile of scales
  if (kFormat == DType::kE2M1x2) {
    for (int64_t i = 0; i < kBlockRows * kCount * kStep / kE2M1Block; i += 64) {
      _mm_prefetch(w.next_scales + kBlockRows * k / kE2M1Block + i, _MM_HINT_T0);
    }
  }
  for (int64_t i = 0, r = 0; i < 2 * kCount; ++i) {
    for (const int64_t end = r + kBlockRows / (2 * kCount); r < end; ++r) {
      const uint8_t* ahead = next + r % kSequences * kRowsOfSequence * rows.stride + r / kSequences * bytes;
      for (int64_t line = 0; line < bytes; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T1);
      DecodeRun<kFormat, kCount>::Do(rows, codes, scales, tiles);
      codes += rows.stride, scales += scale_stride, tiles += 64;
    }
    between(i);
  }
}
template <DType kFormat, int64_t kCount>
inline void DecodeSteps(const WeightBlock& w, int64_t k, uint8_t* tiles) {
  DecodeSteps<kFormat, kCount>(w, k, tiles, [](int64_t) {});
}

// The same request for BF16, which is not decoded: 64 elements of 32 rows.
inline void PrefetchStep(const WeightBlock& w, int64_t k) {
  const int64_t stride = w.rows.stride, ahead = 2 * k + std::min(kAheadBytesInPlace, stride);
  const uint8_t* next = ahead < stride ? w.rows.Row(w.begin) + ahead : w.next_codes + ahead - stride;
  for (int64_t r = 0; r < kBlockRows; ++r, next += stride) {
    _mm_prefetch(next, _MM_HINT_T0);
    _mm_prefetch(next + 64, _MM_HINT_T0);
  }
}

// Half a step, 32 elements: two tiles of w from `tiles` on, packed x from `x0` and, if kTwo, `x1`.
template <bool kTwo>
inline void MultiplyHalf(const uint8_t* tiles, const uint8_t* x0, int64_t n0, const uint8_t* x1, int64_t n1) {
  VX_TILE_LOAD(VX_X0, x0, 4 * n0);
  VX_TILE_LOAD(VX_W0, tiles, 64);
  VX_TILE_LOAD(VX_W1, tiles + kTileBytes, 64);
  VX_TILE_MULTIPLY(VX_C00, VX_W0, VX_X0);
  VX_TILE_MULTIPLY(VX_C10, VX_W1, VX_X0);
  if constexpr (kTwo) {
    VX_TILE_LOAD(VX_X1, x1, 4 * n1);
    VX_TILE_MULTIPLY(VX_C01, VX_W0, VX_X1);
    VX_TILE_MULTIPLY(VX_C11, VX_W1, VX_X1);
  }
}
template <bool kTwo>
inline void MultiplyStep(const uint8_t* tiles, const uint8_t* x0, int64_t n0, const uint8_t* x1, int64_t n1) {
  MultiplyHalf<kTwo>(tiles, x0, n0, x1, n1);
  MultiplyHalf<kTwo>(tiles + kHalfStepBytes, x0 + 64 * n0, n0, x1 + 64 * n1, n1);
}
// The same with whole BF16 rows, where w is already in tiles' order.
template <bool kTwo>
inline void MultiplyStepInPlace(const uint8_t* w, int64_t stride, const uint8_t* x0, int64_t n0, const uint8_t* x1,
                                int64_t n1) {
  for (int64_t half = 0; half < 2; ++half) {
    VX_TILE_LOAD(VX_X0, x0 + half * 64 * n0, 4 * n0);
    VX_TILE_LOAD(VX_W0, w + half * 64, stride);
    VX_TILE_LOAD(VX_W1, w + half * 64 + kTileRows * stride, stride);
    VX_TILE_MULTIPLY(VX_C00, VX_W0, VX_X0);
    VX_TILE_MULTIPLY(VX_C10, VX_W1, VX_X0);
    if constexpr (kTwo) {
      VX_TILE_LOAD(VX_X1, x1 + half * 64 * n1, 4 * n1);
      VX_TILE_MULTIPLY(VX_C01, VX_W0, VX_X1);
      VX_TILE_MULTIPLY(VX_C11, VX_W1, VX_X1);
    }
  }
}

template <class Y>
void StoreResults(const WeightBlock& w, const InputBlock& x0, const InputBlock* x1, MutTensorView y) {
  alignas(64) float sums[16 * 16];
  const auto store = [&](const InputBlock& x, int64_t tile) {
    const int64_t columns = std::min(kTileRows, w.count - tile * kTileRows);
    if (columns > 0) StoreSums<Y>(sums, x.count, y, x.begin, x.count, w.begin + tile * kTileRows, columns);
  };
  VX_TILE_STORE(VX_C00, sums, 4 * x0.count);
  store(x0, 0);
  VX_TILE_STORE(VX_C10, sums, 4 * x0.count);
  store(x0, 1);
  if (!x1) return;
  VX_TILE_STORE(VX_C01, sums, 4 * x1->count);
  store(*x1, 0);
  VX_TILE_STORE(VX_C11, sums, 4 * x1->count);
  store(*x1, 1);
}

template <bool kTwo>
inline void ZeroResults() {
  VX_TILE_ZERO(VX_C00);
  VX_TILE_ZERO(VX_C10);
  if constexpr (kTwo) {
    VX_TILE_ZERO(VX_C01);
    VX_TILE_ZERO(VX_C11);
  }
}

// Up to two blocks of x times a block of w that is read once. Tiles are configured for the blocks. The multiplications
// of a group of steps can be spread over the decoding of the next: they keep other parts of the processor busy.
template <DType kFormat, class Y, bool kTwo>
void StreamDecoded(const WeightBlock& w, const InputBlock& b0, const InputBlock* b1, MutTensorView y) {
  constexpr int64_t kGroup = GroupOf(kFormat), kBuffers = MultipliesBehind(kFormat) ? 2 : 1;
  alignas(64) uint8_t buffers[kBuffers][kGroup * kStepBytes];
  const uint8_t *x0 = b0.data, *x1 = kTwo ? b1->data : nullptr;
  const int64_t n0 = b0.count, n1 = kTwo ? b1->count : 0;
  const int64_t whole = w.count == kBlockRows ? w.k / kStep : 0, groups = whole / kGroup;
  const auto multiply = [&](const uint8_t* tiles) {
    MultiplyHalf<kTwo>(tiles, x0, n0, x1, n1);
    x0 += 64 * n0, x1 += 64 * n1;
  };
  const auto multiply_group = [&](const uint8_t* tiles) {
    for (int64_t i = 0; i < 2 * kGroup; ++i) multiply(tiles + i * kHalfStepBytes);
  };
  ZeroResults<kTwo>();
  for (int64_t g = 0; g < groups; ++g) {
    uint8_t* tiles = buffers[g % kBuffers];
    const int64_t k = g * kGroup * kStep;
    if (!MultipliesBehind(kFormat)) {
      DecodeSteps<kFormat, kGroup>(w, k, tiles);
      multiply_group(tiles);
    } else if (g == 0) {
      DecodeSteps<kFormat, kGroup>(w, k, tiles);
    } else {
      const uint8_t* ready = buffers[(g - 1) % kBuffers];
      DecodeSteps<kFormat, kGroup>(w, k, tiles, [&](int64_t i) { multiply(ready + i * kHalfStepBytes); });
    }
  }
  if (MultipliesBehind(kFormat) && groups > 0) multiply_group(buffers[(groups - 1) % kBuffers]);
  for (int64_t k = groups * kGroup * kStep; k < w.k; k += kStep) {
    if (k < whole * kStep) {
      DecodeSteps<kFormat, 1>(w, k, buffers[0]);
    } else {
      DecodeEdge<kFormat>(w, k, buffers[0]);
    }
    multiply(buffers[0]);
    multiply(buffers[0] + kHalfStepBytes);
  }
  StoreResults<Y>(w, b0, b1, y);
}

// The same for 32 whole rows of BF16, which are tiles where they lie.
template <class Y, bool kTwo>
void StreamInPlace(const WeightBlock& w, const InputBlock& b0, const InputBlock* b1, MutTensorView y) {
  const uint8_t *x0 = b0.data, *x1 = kTwo ? b1->data : nullptr;
  const int64_t n0 = b0.count, n1 = kTwo ? b1->count : 0;
  ZeroResults<kTwo>();
  int64_t k = 0;
  for (; k + kStep <= w.k; k += kStep, x0 += 128 * n0, x1 += 128 * n1) {
    PrefetchStep(w, k);
    MultiplyStepInPlace<kTwo>(w.rows.Row(w.begin) + 2 * k, w.rows.stride, x0, n0, x1, n1);
  }
  if (k < w.k) {
    alignas(64) uint8_t tiles[kStepBytes];
    DecodeEdge<DType::kBF16>(w, k, tiles);
    MultiplyStep<kTwo>(tiles, x0, n0, x1, n1);
  }
  StoreResults<Y>(w, b0, b1, y);
}

template <DType kFormat, class Y, bool kTwo>
void Stream(const WeightBlock& w, const InputBlock& b0, const InputBlock* b1, MutTensorView y) {
  if (kFormat == DType::kBF16 && w.count == kBlockRows) {
    StreamInPlace<Y, kTwo>(w, b0, b1, y);
  } else {
    StreamDecoded<kFormat, Y, kTwo>(w, b0, b1, y);
  }
}

// Rows of x as BF16, transposed in pairs of elements: out[pair][row]. Zeros from K on.
template <DType kFormat>
void PackInput(const Product& p, const CodeRows& x, const InputBlock& b, uint8_t* out) {
  const int64_t k = p.k();
  for (int64_t i = 0; i < k; i += kStep) {
    __m512i v[2][16];
    for (int64_t t = 0; t < 16; ++t) {
      Bf16Pair e = {_mm512_setzero_si512(), _mm512_setzero_si512()};
      if (t < b.count) e = Decode<kFormat>::Get(x, p.RowOfX(b.begin + t), i, std::min(kStep, k - i));
      v[0][t] = e.v[0];
      v[1][t] = e.v[1];
    }
    for (__m512i* half : {v[0], v[1]}) {
      if (b.count == 1) {
        _mm512_storeu_si512(out, half[0]);
      } else {
        Transpose16(half);
        for (int64_t pair = 0; pair < 16; ++pair) {
          _mm512_mask_storeu_epi32(out + pair * 4 * b.count, __mmask16(FirstBits(b.count)), half[pair]);
        }
      }
      out += 64 * b.count;
    }
  }
}

// The packed x of a call, in the context's workspace.
struct PackedInput {
  std::span<const InputBlock> blocks;
  std::span<const int64_t> first_block;  // of each group
};

PackedInput Pack(const Context& ctx, const Product& p) {
  const int64_t groups = int64_t(p.groups.size()), row_bytes = CeilDiv(p.k(), kStep) * kStep * 2;
  int64_t* first = ctx.workspace->Allocate<int64_t>(groups);
  int64_t count = 0;
  for (int64_t g = 0; g < groups; ++g) {
    first[g] = count;
    count += CeilDiv(p.groups[size_t(g)].end - p.groups[size_t(g)].begin, kTileRows);
  }
  InputBlock* blocks = ctx.workspace->Allocate<InputBlock>(count);
  uint8_t* data = ctx.workspace->Allocate<uint8_t>(p.y.dim(0) * row_bytes);
  for (int64_t g = 0, b = 0; g < groups; ++g) {
    for (int64_t i = p.groups[size_t(g)].begin; i < p.groups[size_t(g)].end; i += kTileRows) {
      blocks[b++] = {data + i * row_bytes, i, std::min(kTileRows, p.groups[size_t(g)].end - i)};
    }
  }
  const CodeRows x = CodeRowsOf(p.x);
  const int64_t grain = std::max<int64_t>(1, (1 << 17) / (row_bytes * CeilDiv(p.y.dim(0), count)));
  WithBf16Format(p.x.data.dtype(), [&](auto format) {
    ctx.For(count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        PackInput<decltype(format)::value>(p, x, blocks[b], const_cast<uint8_t*>(blocks[b].data));
      }
    });
  });
  return {{blocks, size_t(count)}, {first, size_t(groups)}};
}

// Items are blocks of 32 rows of w, of all groups in turn.
template <DType kFormat, class Y>
void RunItems(const Product& p, const PackedInput& x, int64_t begin, int64_t end) {
  const int64_t per_group = CeilDiv(p.columns(), kBlockRows), items = int64_t(p.groups.size()) * per_group;
  int64_t configured = -1;
  for (int64_t item = begin; item < end; ++item) {
    const size_t g = size_t(item / per_group);
    const ProductGroup& group = p.groups[g];
    const int64_t row = item % per_group * kBlockRows, n = group.end - group.begin;
    // The next item is most often this thread's, too.
    const int64_t next = std::min(item + 1, items - 1), next_row = next % per_group * kBlockRows;
    const CodeRows next_rows = CodeRowsOf(*p.groups[size_t(next / per_group)].w);
    const WeightBlock w = {
        CodeRowsOf(*group.w),        row, std::min(kBlockRows, p.columns() - row), p.k(), next_rows.Row(next_row),
        next_rows.ScaleRow(next_row)};
    const std::span<const InputBlock> blocks =
        x.blocks.subspan(size_t(x.first_block[g]), size_t(CeilDiv(n, kTileRows)));
    if (configured != n) Configure(blocks[0].count, n - blocks[0].count);
    configured = n;
    if (n > kTileRows) {
      Stream<kFormat, Y, true>(w, blocks[0], &blocks[1], p.y);
    } else {
      Stream<kFormat, Y, false>(w, blocks[0], nullptr, p.y);
    }
  }
  ReleaseTiles();
}

template <DType kFormat, class Y>
void RunProduct(const Context& ctx, const Product& p) {
  const PackedInput x = Pack(ctx, p);
  const int64_t grain = std::max<int64_t>(1, kPieceBytes / (kBlockRows * BytesOfElements(kFormat, p.k())));
  const int64_t items = int64_t(p.groups.size()) * CeilDiv(p.columns(), kBlockRows);
  ForPieces(ctx, items, grain, [&](Slot, int64_t begin, int64_t end) { RunItems<kFormat, Y>(p, x, begin, end); });
}

}  // namespace
}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES

namespace vexil::cpu {

Support AmxSupports(const Context& ctx, const QuantView& x, const QuantView& w, DType y) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAmx), "no AMX BF16 here, or --cpu-isa forbids it");
  const char* refused = RefuseBf16Values(x, w, y);
  VX_REQUIRE(refused == nullptr, refused);
  return {};
}

// Groups of few rows first.
static std::pair<Product, Product> SplitByRows(const Context& ctx, const Product& p) {
  ProductGroup* groups = ctx.workspace->Allocate<ProductGroup>(int64_t(p.groups.size()));
  ProductGroup* end = std::copy(p.groups.begin(), p.groups.end(), groups);
  ProductGroup* many =
      std::stable_partition(groups, end, [](const ProductGroup& g) { return g.end - g.begin <= kStreamedRows; });
  std::pair<Product, Product> parts = {p, p};
  parts.first.groups = {groups, many};
  parts.second.groups = {many, end};
  return parts;
}

static void MultiplyStreamed(const Context& ctx, const Product& p) {
  WithBf16Format(p.groups[0].w->data.dtype(), [&](auto format) {
    if (p.y.dtype() == DType::kBF16) {
      RunProduct<decltype(format)::value, BF16>(ctx, p);
    } else {
      RunProduct<decltype(format)::value, float>(ctx, p);
    }
  });
}

Status MultiplyAmx(const Context& ctx, const Product& p) {
  const auto [few, many] = SplitByRows(ctx, p);
  if (!few.groups.empty()) MultiplyStreamed(ctx, few);
  if (!many.groups.empty()) MultiplyAmxBlocked(ctx, many);
  return {};
}

}  // namespace vexil::cpu
#endif
