// What Linear and GroupedLinear ask of their fast kernels: rows of y in groups, each group with its weight.
//
//   y[p, j] = sum_k x[row(p), k] * w[g][j, k]   for the rows p of group g
//
// Linear is one group of all rows. Every instruction set has one implementation, which both ops use.
#pragma once

#include <atomic>
#include <span>

#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/linear.h"
#include "ops/linear/operands.h"

namespace vexil::cpu {

struct ProductGroup {
  const QuantView* w;
  int64_t begin, end;  // rows of y, at least one
};

struct Product {
  QuantView x;
  const int32_t* rows;  // the row of x for each row of y; null: the same
  std::span<const ProductGroup> groups;
  MutTensorView y;

  int64_t RowOfX(int64_t p) const { return rows ? rows[p] : p; }
  int64_t k() const { return x.Columns(); }
  int64_t columns() const { return y.dim(1); }
};

// Groups live in the context's workspace.
Product ProductOf(const Context& ctx, const Linear::Args& a);
Product ProductOf(const Context& ctx, const GroupedLinear::Args& a);

// Bytes of weights that a thread should stream at a stretch: the start of a stream costs some microseconds.
inline constexpr int64_t kPieceBytes = 256 << 10;

// The scratch memory of one thread of a loop.
using Slot = int64_t;

// body(slot, begin, end) over [0, n) in pieces of at least `grain` consecutive items. Every slot has a share of the
// range that it goes through in order; a thread that is done takes pieces of other shares. No two bodies with the same
// slot, 0 <= slot < SlotsOf(ctx), run at the same time.
void ForPieces(const Context& ctx, int64_t n, int64_t grain, FunctionRef<void(Slot, int64_t, int64_t)> body);
inline int64_t SlotsOf(const Context& ctx) { return ctx.threads ? ctx.threads->threads() : 1; }

// Whether x and w have BF16 values, so that their products are exact in f32: the kernels with BF16 instructions
// dequantise both to BF16. Otherwise a literal that says why not.
const char* RefuseBf16Values(const QuantView& x, const QuantView& w, DType y);

}  // namespace vexil::cpu
