// Swiglu in vectors, a row per item; exp to within one ulp (ops/vectors/pack-inl.h).
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/swiglu/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>

#include "ops/elements.h"
#include "ops/swiglu/swiglu.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

inline float RowWeight(const Swiglu::Args& a, int64_t r) {
  if (a.row_weight.empty()) return 1.0f;
  return a.row_weight.Data<float>()[a.row_index.empty() ? r : a.row_index.Data<int32_t>()[r]];
}

template <class T>
void SwigluRow(const Swiglu::Args& a, int64_t r) {
  const Floats limit = Set(a.limit > 0 ? a.limit : std::numeric_limits<float>::infinity());
  const Floats negative = Zero() - limit, weight = Set(RowWeight(a, r));
  const T *gates = a.a.Row<T>(r), *ups = a.b.Row<T>(r);
  T* y = a.y.MutRow<T>(r);
  for (int64_t i = 0; i < a.a.dim(1); i += kLanes) {
    const Floats gate = AtMost(limit, Load(gates + i));
    const Floats up = AtMost(limit, AtLeast(negative, Load(ups + i)));
    const Floats silu = gate / (Set(1) + Exp(Zero() - gate));
    Store(silu * up * weight, y + i);
  }
}

Status SwigluVectors(const Context& ctx, const Swiglu::Args& a) {
  constexpr int64_t kRows = 2;  // a few microseconds of work
  WithFloatType(a.a.dtype(), [&](auto e) {
    ctx.For(a.a.dim(0), kRows, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) SwigluRow<decltype(e)>(a, r);
    });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support SwigluVectorsSupport(const Context&, const Swiglu::Args& a) {
  VX_REQUIRE(IsFloat(a.a.dtype()), "a must be F32 or BF16");
  VX_REQUIRE(a.a.dim(1) % 16 == 0, "F must be a multiple of 16");
  return {};
}

HWY_EXPORT(SwigluVectors);
VX_VECTOR_KERNELS(Swiglu)

}  // namespace vexil::cpu
#endif
