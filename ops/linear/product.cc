#include "ops/linear/product.h"

#include <algorithm>
#include <memory>

namespace vexil::cpu {

Product ProductOf(const Context& ctx, const Linear::Args& a) {
  ProductGroup* group = ctx.workspace->Allocate<ProductGroup>(1);
  *group = {&a.w, 0, a.y.dim(0)};
  return {a.x, nullptr, {group, size_t(a.y.dim(0) > 0)}, a.y};
}

Product ProductOf(const Context& ctx, const GroupedLinear::Args& a) {
  const int32_t* offsets = a.offsets.Data<int32_t>();
  ProductGroup* groups = ctx.workspace->Allocate<ProductGroup>(std::min(int64_t(a.w.size()), a.y.dim(0)));
  size_t count = 0;
  for (size_t e = 0; e < a.w.size(); ++e) {
    if (offsets[e] < offsets[e + 1]) groups[count++] = {&a.w[e], offsets[e], offsets[e + 1]};
  }
  return {a.x, a.rows.empty() ? nullptr : a.rows.Data<int32_t>(), {groups, count}, a.y};
}

void ForPieces(const Context& ctx, int64_t n, int64_t grain, FunctionRef<void(Slot, int64_t, int64_t)> body) {
  const int64_t slots = SlotsOf(ctx);
  // Several pieces per thread even out the threads' speed.
  constexpr int64_t kPiecesPerThread = 8;
  const int64_t piece = std::max(grain, CeilDiv(n, kPiecesPerThread * slots)), pieces = CeilDiv(n, piece);
  if (slots == 1 || n <= piece) {
    if (n > 0) body(0, 0, n);
    return;
  }
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  Share* shares = ctx.workspace->Allocate<Share>(slots);
  for (int64_t s = 0; s < slots; ++s) {
    std::construct_at(&shares[s].next, pieces * s / slots);
    shares[s].end = pieces * (s + 1) / slots;
  }
  ctx.For(slots, 1, [&](int64_t slot, int64_t) {
    for (int64_t i = 0; i < slots; ++i) {  // its own share, then what is left of the others'
      Share& share = shares[(slot + i) % slots];
      for (;;) {
        const int64_t begin = share.next.fetch_add(1, std::memory_order_relaxed);
        if (begin >= share.end) break;
        body(slot, begin * piece, std::min(n, (begin + 1) * piece));
      }
    }
  });
}

const char* RefuseBf16Values(const QuantView& x, const QuantView& w, DType y) {
  if (x.data.dtype() == DType::kF32) return "x is F32: its products with BF16 values are rounded";
  if (x.data.dtype() == DType::kI8) return "sums of I8 by I8 are exact, and these are f32";
  switch (w.data.dtype()) {
    case DType::kBF16:
    case DType::kE4M3:
    case DType::kE2M1x2:
      return nullptr;
    case DType::kI8:
      return y == DType::kBF16 ? nullptr : "an I8 weight for F32 y is not rounded to BF16";
    case DType::kQ8_0:
    case DType::kMXFP4:
      return "blocks of GGUF are decoded to f32";
    default:
      return "w is F32 or F16, whose values BF16 does not have";
  }
}

}  // namespace vexil::cpu
