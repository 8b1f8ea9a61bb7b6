// MoeCombine in vectors: the same sums in the same order as the plain kernel, so the same bits. Columns of a token are
// split over threads; 16 of them are summed over all experts in registers. Bytes moved: each once.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/moe_combine/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <numeric>

#include "ops/elements.h"
#include "ops/moe_combine/moe_combine.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

inline constexpr int64_t kMaxSlots = 64;

// rows[i] = the row of y of the i-th lowest expert of token t, equal ones in slot order.
template <class T>
void RowsByExpert(const MoeCombine::Args& a, int64_t t, const T** rows) {
  const int32_t *experts = a.experts.Row<int32_t>(t), *pair_of = a.pair_of.Row<int32_t>(t);
  int order[kMaxSlots];
  const int k = int(a.experts.dim(1));
  for (int slot = 0; slot < k; ++slot) {
    int at = slot;
    for (; at > 0 && experts[order[at - 1]] > experts[slot]; --at) order[at] = order[at - 1];
    order[at] = slot;
  }
  for (int i = 0; i < k; ++i) rows[i] = a.y.Row<T>(pair_of[order[i]]);
}

// Columns [begin, end) of token t; both multiples of 16.
template <class T>
void AddExperts(const MoeCombine::Args& a, int64_t t, int64_t begin, int64_t end) {
  const T* rows[kMaxSlots];
  RowsByExpert(a, t, rows);
  const int64_t k = a.experts.dim(1);
  const T* shared = a.shared.Row<T>(t);
  T* out = a.out.MutRow<T>(t);
  for (int64_t c = begin; c < end; c += kLanes) {
    Floats sum = Zero();
    for (int64_t i = 0; i < k; ++i) sum = sum + Load(rows[i] + c);
    Store(sum + Load(shared + c), out + c);
  }
}

Status MoeCombineVectors(const Context& ctx, const MoeCombine::Args& a) {
  constexpr int64_t kColumns = 1024;  // half a microsecond of work
  const int64_t d = a.y.dim(1), across = (d + kColumns - 1) / kColumns;
  WithFloatType(a.y.dtype(), [&](auto e) {
    ctx.For(a.out.dim(0) * across, 4, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t begin = i % across * kColumns;
        AddExperts<decltype(e)>(a, i / across, begin, std::min(begin + kColumns, d));
      }
    });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support MoeCombineVectorsSupport(const Context&, const MoeCombine::Args& a) {
  VX_REQUIRE(IsFloat(a.y.dtype()), "y must be F32 or BF16");
  VX_REQUIRE(a.y.dim(1) % 16 == 0, "D must be a multiple of 16");
  VX_REQUIRE(a.experts.dim(1) <= 64, "at most 64 experts per token");
  return {};
}

HWY_EXPORT(MoeCombineVectors);
VX_VECTOR_KERNELS(MoeCombine)

}  // namespace vexil::cpu
#endif
