// Four rows of w times up to four rows of x at a time, one accumulator of 16 lanes for each pair of rows: lane l sums
// the pairs k = 2 l (mod 32), in ascending order. x is converted to BF16 once per call.
//
// Few rows (up to 4): rows of w are decoded in registers as they stream by. Many rows: a block of 16 rows of w is
// decoded into a panel, which stays in the second-level cache while x passes by.
#include "ops/linear/product_avx512bf16.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>

#include "ops/elements.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi,avx512bf16")
#include "ops/linear/bf16_values_avx512.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kRegisterRows = 4;  // of w and of x
constexpr int64_t kPanelRows = 16;    // of w

// Rows of x as BF16, zeros from K to the stride, a multiple of 64 elements.
struct Bf16Rows {
  const BF16* data;
  int64_t stride;
};

template <DType kFormat>
void ConvertRow(const CodeRows& rows, int64_t r, int64_t k, BF16* out) {
  for (int64_t i = 0; i < k; i += kStep) {
    const Bf16Pair p = Decode<kFormat>::Get(rows, r, i, std::min(kStep, k - i));
    _mm512_store_si512(out + i, p.v[0]);
    _mm512_store_si512(out + i + 32, p.v[1]);
  }
}

Bf16Rows ConvertInput(const Context& ctx, const QuantView& x) {
  const int64_t n = x.data.dim(0), k = x.Columns(), stride = CeilDiv(k, kStep) * kStep;
  BF16* out = ctx.workspace->Allocate<BF16>(n * stride);
  const CodeRows rows = CodeRowsOf(x);
  WithBf16Format(x.data.dtype(), [&](auto format) {
    ctx.For(n, std::max<int64_t>(1, 32768 / k), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ConvertRow<decltype(format)::value>(rows, i, k, out + i * stride);
    });
  });
  return {out, stride};
}

// Where four rows of w come from: decoded in front of the multiplication,
template <DType kFormat>
struct StreamedRows {
  CodeRows rows;
  int64_t begin, count, k;  // rows beyond `count` repeat the last

  inline Bf16Pair Get(int64_t r, int64_t i) const {
    return Decode<kFormat>::Get(rows, begin + std::min(r, count - 1), i, std::min(kStep, k - i));
  }
  inline void Prefetch(int64_t i) const {
    constexpr int64_t kAhead = 2048;
    const int64_t offset = BytesOfElements(kFormat, i);
    if (offset % 64 != 0) return;
    const uint8_t* p = rows.Row(begin) + offset + kAhead;
    for (int64_t r = 0; r < kRegisterRows; ++r) {
      _mm_prefetch(p + r * rows.stride, _MM_HINT_T0);
      if (kFormat == DType::kBF16) _mm_prefetch(p + r * rows.stride + 64, _MM_HINT_T0);
    }
  }
};
// or read from a panel.
struct PanelRows {
  const BF16* data;
  int64_t stride;

  inline Bf16Pair Get(int64_t r, int64_t i) const {
    const BF16* p = data + r * stride + i;
    return {_mm512_load_si512(p), _mm512_load_si512(p + 32)};
  }
  inline void Prefetch(int64_t) const {}
};

inline __m512 Dot(__m512 sum, __m512i a, __m512i b) { return _mm512_dpbf16_ps(sum, __m512bh(a), __m512bh(b)); }

// sums[t][r] = x[t] . w[r] over k elements.
template <int64_t kRows, class Rows>
inline void MultiplyRows(const Rows& w, const BF16* const* x, int64_t k, float sums[][kRegisterRows]) {
  __m512 acc[kRows][kRegisterRows];
  for (auto& row : acc) {
    for (__m512& a : row) a = _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < k; i += kStep) {
    w.Prefetch(i);
#pragma GCC unroll 4
    for (int64_t r = 0; r < kRegisterRows; ++r) {
      const Bf16Pair p = w.Get(r, i);
#pragma GCC unroll 4
      for (int64_t t = 0; t < kRows; ++t) {
        acc[t][r] = Dot(acc[t][r], p.v[0], _mm512_load_si512(x[t] + i));
        acc[t][r] = Dot(acc[t][r], p.v[1], _mm512_load_si512(x[t] + i + 32));
      }
    }
  }
  for (int64_t t = 0; t < kRows; ++t) {
    for (int64_t r = 0; r < kRegisterRows; ++r) sums[t][r] = _mm512_reduce_add_ps(acc[t][r]);
  }
}

// Columns [j, j + columns) of rows [begin, begin + count) of y; at most 4 each.
template <class Y, class Rows>
void MultiplyBlock(const Rows& w, const Product& p, const Bf16Rows& x, int64_t begin, int64_t count, int64_t j,
                   int64_t columns) {
  const BF16* rows[kRegisterRows] = {};
  for (int64_t t = 0; t < count; ++t) rows[t] = x.data + p.RowOfX(begin + t) * x.stride;
  float sums[kRegisterRows][kRegisterRows];
  switch (count) {
    case 1:
      MultiplyRows<1>(w, rows, p.k(), sums);
      break;
    case 2:
      MultiplyRows<2>(w, rows, p.k(), sums);
      break;
    case 3:
      MultiplyRows<3>(w, rows, p.k(), sums);
      break;
    default:
      MultiplyRows<4>(w, rows, p.k(), sums);
      break;
  }
  for (int64_t t = 0; t < count; ++t) {
    Y* y = p.y.MutRow<Y>(begin + t) + j;
    for (int64_t r = 0; r < columns; ++r) y[r] = FromFloat<Y>(sums[t][r]);
  }
}

// Columns [begin, end) of y for a group of up to four rows.
template <DType kFormat, class Y>
void Stream(const Product& p, const ProductGroup& g, const Bf16Rows& x, int64_t begin, int64_t end) {
  const CodeRows rows = CodeRowsOf(*g.w);
  for (int64_t j = begin; j < end; j += kRegisterRows) {
    const int64_t columns = std::min(kRegisterRows, end - j);
    MultiplyBlock<Y>(StreamedRows<kFormat>{rows, j, columns, p.k()}, p, x, g.begin, g.end - g.begin, j, columns);
  }
}

// Columns [begin, end) of y, at most 16, for a group of any number of rows.
template <DType kFormat, class Y>
void MultiplyPanel(const Product& p, const ProductGroup& g, const Bf16Rows& x, int64_t begin, int64_t end,
                   BF16* panel) {
  const CodeRows rows = CodeRowsOf(*g.w);
  for (int64_t j = 0; j < CeilDiv(end - begin, kRegisterRows) * kRegisterRows; ++j) {
    ConvertRow<kFormat>(rows, std::min(begin + j, end - 1), p.k(), panel + j * x.stride);
  }
  for (int64_t i = g.begin; i < g.end; i += kRegisterRows) {
    for (int64_t j = begin; j < end; j += kRegisterRows) {
      MultiplyBlock<Y>(PanelRows{panel + (j - begin) * x.stride, x.stride}, p, x, i, std::min(kRegisterRows, g.end - i),
                       j, std::min(kRegisterRows, end - j));
    }
  }
}

template <DType kFormat, class Y>
void RunProduct(const Context& ctx, const Product& p) {
  const Bf16Rows x = ConvertInput(ctx, p.x);
  int64_t most = 0;
  for (const ProductGroup& g : p.groups) most = std::max(most, g.end - g.begin);
  const int64_t panel_elements = most > kRegisterRows ? kPanelRows * x.stride : 0;
  BF16* panels = ctx.workspace->Allocate<BF16>(panel_elements * SlotsOf(ctx));
  const int64_t item_bytes = kPanelRows * BytesOfElements(kFormat, p.k());
  const int64_t grain = most > kRegisterRows ? 1 : std::max<int64_t>(1, kPieceBytes / item_bytes);
  const int64_t per_group = CeilDiv(p.columns(), kPanelRows);
  ForPieces(ctx, int64_t(p.groups.size()) * per_group, grain, [&](Slot slot, int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const ProductGroup& g = p.groups[size_t(item / per_group)];
      const int64_t j = item % per_group * kPanelRows, j_end = std::min(j + kPanelRows, p.columns());
      if (g.end - g.begin <= kRegisterRows) {
        Stream<kFormat, Y>(p, g, x, j, j_end);
      } else {
        MultiplyPanel<kFormat, Y>(p, g, x, j, j_end, panels + slot * panel_elements);
      }
    }
  });
}

}  // namespace
}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES

namespace vexil::cpu {

Support Avx512Bf16Supports(const Context& ctx, const QuantView& x, const QuantView& w, DType y) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAvx512Bf16), "no AVX-512 BF16 here, or --cpu-isa forbids it");
  const char* refused = RefuseBf16Values(x, w, y);
  VX_REQUIRE(refused == nullptr, refused);
  return {};
}

Status MultiplyAvx512Bf16(const Context& ctx, const Product& p) {
  if (p.groups.empty()) return {};
  WithBf16Format(p.groups[0].w->data.dtype(), [&](auto format) {
    if (p.y.dtype() == DType::kBF16) {
      RunProduct<decltype(format)::value, BF16>(ctx, p);
    } else {
      RunProduct<decltype(format)::value, float>(ctx, p);
    }
  });
  return {};
}

}  // namespace vexil::cpu
#endif
