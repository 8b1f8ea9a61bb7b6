#include <algorithm>
#include <numeric>
#include <vector>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/moe_combine/moe_combine.h"

namespace vexil::cpu {

Support MoeCombinePlainSupports(const Context&, const MoeCombine::Args& a) {
  VX_REQUIRE(IsFloat(a.y.dtype()), "y must be F32 or BF16");
  return {};
}

// order[i] = the slot with the i-th lowest expert of token t.
static void ByExpert(const MoeCombine::Args& a, int64_t t, std::vector<int64_t>& order) {
  const int32_t* experts = a.experts.Row<int32_t>(t);
  std::iota(order.begin(), order.end(), 0);
  if (VX_FAULT("slot_order")) return;
  std::stable_sort(order.begin(), order.end(), [&](int64_t l, int64_t r) { return experts[l] < experts[r]; });
}

template <class T>
static void Tokens(const MoeCombine::Args& a, int64_t begin, int64_t end) {
  const int64_t k = a.experts.dim(1), d = a.y.dim(1);
  std::vector<int64_t> order(static_cast<size_t>(k));
  std::vector<float> sum(static_cast<size_t>(d));
  for (int64_t t = begin; t < end; ++t) {
    ByExpert(a, t, order);
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (int64_t slot : order) {
      const T* y = a.y.Row<T>(a.pair_of.Row<int32_t>(t)[VX_FAULT("first_slot") ? 0 : slot]);
      for (int64_t i = 0; i < d; ++i) sum[size_t(i)] += ToFloat(y[i]);
    }
    const T* shared = a.shared.Row<T>(t);
    T* out = a.out.MutRow<T>(t);
    const bool drop_shared = VX_FAULT("dropped_shared");
    for (int64_t i = 0; i < d; ++i) out[i] = FromFloat<T>(sum[size_t(i)] + (drop_shared ? 0.0f : ToFloat(shared[i])));
  }
}

Status MoeCombinePlain(const Context& ctx, const MoeCombine::Args& a) {
  WithFloatType(a.y.dtype(), [&](auto y) {
    ctx.For(a.out.dim(0), 1, [&](int64_t begin, int64_t end) { Tokens<decltype(y)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
