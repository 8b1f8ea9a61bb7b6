// Vectors run along K: lane l of an accumulator sums k = l (mod lanes), so weight rows are read as they are
// stored and an output's order of summation does not depend on the tile that it falls into.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/linear/product_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <iterator>

#include "ops/elements.h"
#include "ops/linear/product_vectors.h"
#include "ops/vectors/levels.h"

#ifndef VX_OPS_LINEAR_PRODUCT_VECTORS
#define VX_OPS_LINEAR_PRODUCT_VECTORS
namespace vexil::cpu {
inline constexpr int64_t kTileRows = 128;
inline constexpr int64_t kTileColumns = 16;
inline constexpr int64_t kMaxLanes = 16;
// Elements of K between two additions to the totals: short enough for few roundings and for a register block's
// operands to stay in the first-level cache (8 rows of 2 KB), long enough for the additions to cost little.
inline constexpr int64_t kBlock = 512;
// A register block is kBlockRows x kBlockColumns accumulators.
inline constexpr int64_t kBlockRows = 4;
inline constexpr int64_t kBlockColumns = 4;
static_assert(kTileColumns % kBlockColumns == 0 && kBlock % kE4M3Block == 0);

// Rows of x as f32, zero from column K to the stride, which is a multiple of the widest vector.
struct DecodedRows {
  const float* data;
  int64_t stride;
};

// Consecutive rows of one group, at most kTileRows.
struct RowChunk {
  const QuantView* w;
  int64_t begin, end;
};

struct Tile {
  DecodedRows x;
  const Product* product;
  const QuantView* w;
  int64_t row_begin, row_end;        // rows of y
  int64_t column_begin, column_end;  // columns of y, rows of w
};
}  // namespace vexil::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kMaxLanes>;
using DU = hn::RebindToUnsigned<D>;
using DI = hn::RebindToSigned<D>;
using V = hn::Vec<D>;

// Whole vectors of [begin, end): store(i, out + i - begin) writes a vector. Returns where the tail begins.
template <class F>
HWY_INLINE int64_t ForVectors(int64_t begin, int64_t end, float* out, F load) {
  const D d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) hn::StoreU(load(i), d, out + (i - begin));
  return i;
}

HWY_INLINE V LoadBF16(const BF16* p) {
  const hn::Rebind<uint16_t, D> narrow;
  const auto bits = hn::PromoteTo(DU(), hn::LoadU(narrow, reinterpret_cast<const uint16_t*>(p)));
  return hn::BitCast(D(), hn::ShiftLeft<16>(bits));
}

HWY_INLINE V LoadF16(const F16* p) {
  const hn::Rebind<hwy::float16_t, D> narrow;
  return hn::PromoteTo(D(), hn::LoadU(narrow, reinterpret_cast<const hwy::float16_t*>(p)));
}

HWY_INLINE V LoadI8(const int8_t* p) {
  const hn::Rebind<int8_t, D> narrow;
  return hn::ConvertTo(D(), hn::PromoteTo(DI(), hn::LoadU(narrow, p)));
}

HWY_INLINE V LoadE4M3(const E4M3* p) {
  const D d;
  const DU du;
  const DI di;
  const hn::Rebind<uint8_t, D> narrow;
  const auto code = hn::PromoteTo(du, hn::LoadU(narrow, reinterpret_cast<const uint8_t*>(p)));
  const auto magnitude = hn::And(code, hn::Set(du, 0x7f));
  const auto signed_magnitude = hn::BitCast(di, magnitude);
  // Exponent bias 7 becomes 127. Codes below 8 are multiples of the smallest subnormal, 0x7f is NaN.
  const V normal = hn::BitCast(d, hn::Add(hn::ShiftLeft<20>(magnitude), hn::Set(du, 120u << 23)));
  const V subnormal = hn::Mul(hn::ConvertTo(d, signed_magnitude), hn::Set(d, 0x1p-9f));
  const V nan = hn::BitCast(d, hn::Set(du, 0x7fc00000u));
  const V finite = hn::IfThenElse(hn::RebindMask(d, hn::Lt(signed_magnitude, hn::Set(di, 8))), subnormal, normal);
  const V absolute = hn::IfThenElse(hn::RebindMask(d, hn::Eq(signed_magnitude, hn::Set(di, 0x7f))), nan, finite);
  const auto sign = hn::ShiftLeft<24>(hn::AndNot(hn::Set(du, 0x7f), code));
  return hn::Or(absolute, hn::BitCast(d, sign));
}

// Rounds to bf16, ties to even; finite values only.
HWY_INLINE V RoundToBF16(V v) {
  const DU du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd);
  return hn::BitCast(D(), hn::And(rounded, hn::Set(du, 0xffff0000u)));
}

HWY_INLINE float ScaleAt(const QuantView& q, int64_t row, int64_t column) {
  return q.scale.Row<E8M0>(row / q.block_rows)[column / q.block_cols].ToFloat();
}

int64_t DecodeE4M3(const QuantView& q, int64_t row, int64_t begin, int64_t end, float* out) {
  const E4M3* codes = q.data.Row<E4M3>(row);
  int64_t done = begin;
  for (int64_t block = begin; block < end; block += kE4M3Block) {
    const V scale = hn::Set(D(), ScaleAt(q, row, block));
    done = ForVectors(block, std::min(end, block + kE4M3Block), out + (block - begin),
                      [&](int64_t i) HWY_ATTR { return hn::Mul(LoadE4M3(codes + i), scale); });
  }
  return done;
}

// A block of 32 at a time: nibbles become doubled values, which are integers, by a table of 16 bytes.
int64_t DecodeE2M1(const QuantView& q, int64_t row, int64_t begin, int64_t end, float* out) {
#if HWY_TARGET == HWY_SCALAR
  (void)q, (void)row, (void)end, (void)out;
  return begin;  // no table lookup: DecodeRow does it all
#else
  alignas(16) static constexpr int8_t kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  const hn::CappedTag<uint8_t, 16> d8;
  const auto table = hn::Load(d8, reinterpret_cast<const uint8_t*>(kDoubled));
  const uint8_t* codes = reinterpret_cast<const uint8_t*>(q.data.Row<E2M1x2>(row));
  alignas(32) int8_t values[kE2M1Block];
  uint8_t* bytes = reinterpret_cast<uint8_t*>(values);
  int64_t i = begin;
  for (; i + kE2M1Block <= end; i += kE2M1Block) {
    const auto pairs = hn::LoadU(d8, codes + i / 2);
    const auto even = hn::TableLookupBytes(table, hn::And(pairs, hn::Set(d8, 0x0f)));
    const auto odd = hn::TableLookupBytes(table, hn::ShiftRight<4>(pairs));
    hn::Store(hn::InterleaveLower(d8, even, odd), d8, bytes);
    hn::Store(hn::InterleaveUpper(d8, even, odd), d8, bytes + 16);
    const V scale = hn::Set(D(), 0.5f * ScaleAt(q, row, i));
    ForVectors(0, kE2M1Block, out + (i - begin),
               [&](int64_t v) HWY_ATTR { return hn::Mul(LoadI8(values + v), scale); });
  }
  return i;
#endif
}

int64_t DecodeI8(const QuantView& q, int64_t row, int64_t begin, int64_t end, DType product, float* out) {
  const float s = q.scale.dtype() == DType::kF32 ? q.scale.Data<float>()[row] : q.scale.Data<BF16>()[row].ToFloat();
  const int8_t* codes = q.data.Row<int8_t>(row);
  const V scale = hn::Set(D(), s);
  if (product == DType::kF32) {
    return ForVectors(begin, end, out, [&](int64_t i) HWY_ATTR { return hn::Mul(LoadI8(codes + i), scale); });
  }
  return ForVectors(begin, end, out,
                    [&](int64_t i) HWY_ATTR { return RoundToBF16(hn::Mul(LoadI8(codes + i), scale)); });
}

// DecodeRow (operands.h) in vectors. `begin` is a multiple of every block length.
void DecodeSpan(const QuantView& q, int64_t row, int64_t begin, int64_t end, DType i8_product, float* out) {
  int64_t done = begin;
  switch (q.data.dtype()) {
    case DType::kBF16: {
      const BF16* v = q.data.Row<BF16>(row);
      done = ForVectors(begin, end, out, [&](int64_t i) HWY_ATTR { return LoadBF16(v + i); });
      break;
    }
    case DType::kF16: {
      const F16* v = q.data.Row<F16>(row);
      done = ForVectors(begin, end, out, [&](int64_t i) HWY_ATTR { return LoadF16(v + i); });
      break;
    }
    case DType::kE4M3:
      done = DecodeE4M3(q, row, begin, end, out);
      break;
    case DType::kE2M1x2:
      done = DecodeE2M1(q, row, begin, end, out);
      break;
    case DType::kI8:
      done = DecodeI8(q, row, begin, end, i8_product, out);
      break;
    default:
      break;
  }
  DecodeRow(q, row, done, end, i8_product, out + (done - begin));
}

void DecodeInputSpan(const QuantView& x, int64_t row_begin, int64_t row_end, float* out, int64_t stride) {
  const int64_t k = x.Columns();
  for (int64_t i = row_begin; i < row_end; ++i) {
    DecodeSpan(x, i, 0, k, DType::kF32, out + i * stride);
    std::fill(out + i * stride + k, out + (i + 1) * stride, 0.0f);
  }
}

// totals[r][c] += x[r] . w[c] over k elements, a multiple of kMaxLanes.
template <int64_t kRows>
HWY_INLINE void Accumulate(const float* const* x, const float* w, int64_t k, float* totals, int64_t totals_stride) {
  const D d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  V sum[kRows][kBlockColumns];
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kBlockColumns; ++c) sum[r][c] = hn::Zero(d);
  }
  for (int64_t i = 0; i < k; i += lanes) {
    V wi[kBlockColumns];
    for (int64_t c = 0; c < kBlockColumns; ++c) wi[c] = hn::Load(d, w + c * kBlock + i);
    for (int64_t r = 0; r < kRows; ++r) {
      const V xi = hn::LoadU(d, x[r] + i);
      for (int64_t c = 0; c < kBlockColumns; ++c) sum[r][c] = hn::MulAdd(xi, wi[c], sum[r][c]);
    }
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kBlockColumns; ++c) {
      float* total = totals + r * totals_stride + c * kMaxLanes;
      hn::Store(hn::Add(hn::Load(d, total), sum[r][c]), d, total);
    }
  }
}

void AccumulateRows(int64_t rows, const float* const* x, const float* w, int64_t k, float* totals, int64_t stride) {
  switch (rows) {
    case 1:
      return Accumulate<1>(x, w, k, totals, stride);
    case 2:
      return Accumulate<2>(x, w, k, totals, stride);
    case 3:
      return Accumulate<3>(x, w, k, totals, stride);
    default:
      return Accumulate<kBlockRows>(x, w, k, totals, stride);
  }
}

struct TileScratch {
  HWY_ALIGN float w[kTileColumns * kBlock];
  HWY_ALIGN float totals[kTileRows * kTileColumns * kMaxLanes];
};

// The weights of columns [column_begin, column_end) over [begin, begin + length) of K; zero up to whole register
// blocks and vectors.
void DecodeWeights(const Tile& t, int64_t begin, int64_t length, int64_t padded, int64_t columns, float* out) {
  for (int64_t c = 0; c < columns; ++c) {
    float* row = out + c * kBlock;
    const int64_t valid = t.column_begin + c < t.column_end ? length : 0;
    if (valid) DecodeSpan(*t.w, t.column_begin + c, begin, begin + valid, t.product->y.dtype(), row);
    std::fill(row + valid, row + padded, 0.0f);
  }
}

template <class Y>
void StoreTile(const Tile& t, const float* totals) {
  const D d;
  for (int64_t i = t.row_begin; i < t.row_end; ++i) {
    Y* y = t.product->y.MutRow<Y>(i);
    const float* row = totals + (i - t.row_begin) * kTileColumns * kMaxLanes;
    for (int64_t j = t.column_begin; j < t.column_end; ++j) {
      const V lanes = hn::Load(d, row + (j - t.column_begin) * kMaxLanes);
      y[j] = FromFloat<Y>(hn::GetLane(hn::SumOfLanes(d, lanes)));
    }
  }
}

void Multiply(const Tile& t) {
  constexpr int64_t kStride = kTileColumns * kMaxLanes;
  const int64_t k = t.w->Columns(), rows = t.row_end - t.row_begin;
  const int64_t columns = CeilDiv(t.column_end - t.column_begin, kBlockColumns) * kBlockColumns;
  TileScratch scratch;
  std::fill_n(scratch.totals, rows * kStride, 0.0f);
  for (int64_t begin = 0; begin < k; begin += kBlock) {
    const int64_t length = std::min(kBlock, k - begin), padded = CeilDiv(length, kMaxLanes) * kMaxLanes;
    DecodeWeights(t, begin, length, padded, columns, scratch.w);
    for (int64_t r = 0; r < rows; r += kBlockRows) {
      const int64_t block_rows = std::min(kBlockRows, rows - r);
      const float* x[kBlockRows] = {};
      for (int64_t i = 0; i < block_rows; ++i) {
        const int64_t row = t.row_begin + r + i;
        x[i] = t.x.data + t.product->RowOfX(row) * t.x.stride + begin;
      }
      for (int64_t c = 0; c < columns; c += kBlockColumns) {
        AccumulateRows(block_rows, x, scratch.w + c * kBlock, padded, scratch.totals + r * kStride + c * kMaxLanes,
                       kStride);
      }
    }
  }
  WithFloatType(t.product->y.dtype(), [&](auto y) { StoreTile<decltype(y)>(t, scratch.totals); });
}

}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

HWY_EXPORT(DecodeInputSpan);
HWY_EXPORT(Multiply);

namespace {

DecodedRows DecodeInputRows(const Context& ctx, const QuantView& x, size_t version) {
  const int64_t rows = x.data.dim(0), stride = CeilDiv(x.Columns(), kMaxLanes) * kMaxLanes;
  float* out = ctx.workspace->Allocate<float>(rows * stride);
  ctx.For(rows, std::max<int64_t>(1, 32768 / stride), [&](int64_t begin, int64_t end) {
    HWY_DISPATCH_TABLE(DecodeInputSpan)[version](x, begin, end, out, stride);
  });
  return {out, stride};
}

std::span<const RowChunk> ChunksOf(const Context& ctx, const Product& p) {
  // Every chunk but a group's last is full.
  RowChunk* chunks = ctx.workspace->Allocate<RowChunk>(p.y.dim(0) / kTileRows + int64_t(p.groups.size()));
  size_t count = 0;
  for (const ProductGroup& g : p.groups) {
    for (int64_t i = g.begin; i < g.end; i += kTileRows) chunks[count++] = {g.w, i, std::min(i + kTileRows, g.end)};
  }
  return {chunks, count};
}

}  // namespace

Support VectorsSupport(const Context& ctx, const QuantView& x, CpuIsa isa) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(ctx.HasIsa(isa), "not on this processor, or --cpu-isa forbids it");
  VX_REQUIRE(x.data.dtype() != DType::kI8, "sums of I8 by I8 are exact, and these are f32");
  return {};
}

Status MultiplyVectors(const Context& ctx, const Product& p, CpuIsa isa) {
  if (p.groups.empty()) return {};
  const size_t version = VectorVersion(isa, std::size(HWY_DISPATCH_TABLE(Multiply)));
  const DecodedRows x = DecodeInputRows(ctx, p.x, version);
  const std::span<const RowChunk> chunks = ChunksOf(ctx, p);
  const int64_t across = CeilDiv(p.columns(), kTileColumns);
  const TensorView& w = p.groups[0].w->data;
  const int64_t grain = std::max<int64_t>(1, kPieceBytes / (kTileColumns * w.stride(0) * BytesOf(w.dtype())));
  ForPieces(ctx, int64_t(chunks.size()) * across, grain, [&](Slot, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const RowChunk& c = chunks[size_t(t / across)];
      const int64_t column = t % across * kTileColumns;
      HWY_DISPATCH_TABLE(Multiply)
      [version]({x, &p, c.w, c.begin, c.end, column, std::min(p.columns(), column + kTileColumns)});
    }
  });
  return {};
}

}  // namespace vexil::cpu
#endif
