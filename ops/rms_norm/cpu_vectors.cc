// RmsNorm in vectors: one row per item. The sum of squares runs in 16 lanes (lane l takes i = l mod 16, products and
// sums round apart), then the lanes are added in halves: the same bits for every vector width. Bytes moved: x twice
// (the second time from the first cache), the weight and y once.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/rms_norm/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "ops/elements.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

template <class T, class W>
void RmsNormRow(const T* x, const W* w, int64_t d, float eps, T* y) {
  Floats sum = Zero();
  for (int64_t i = 0; i < d; i += kLanes) {
    const Floats v = Load(x + i);
    sum = sum + v * v;
  }
  const Floats scale = Set(1.0f / std::sqrt(AddLanes(sum) / float(d) + eps));
  for (int64_t i = 0; i < d; i += kLanes) Store(Load(w + i) * (Load(x + i) * scale), y + i);
}

Status RmsNormVectors(const Context& ctx, const RmsNorm::Args& a) {
  constexpr int64_t kRows = 8;  // a few microseconds of work
  WithFloatType(a.x.dtype(), [&](auto x) {
    using T = decltype(x);
    WithFloatType(a.weight.dtype(), [&](auto w) {
      using W = decltype(w);
      ctx.For(a.x.dim(0), kRows, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          RmsNormRow(a.x.Row<T>(r), a.weight.Data<W>(), a.x.dim(1), a.eps, a.y.MutRow<T>(r));
        }
      });
    });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support RmsNormVectorsSupport(const Context&, const RmsNorm::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(IsFloat(a.weight.dtype()), "weight must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) % 16 == 0, "d must be a multiple of 16");
  return {};
}

HWY_EXPORT(RmsNormVectors);
VX_VECTOR_KERNELS(RmsNorm)

}  // namespace vexil::cpu
#endif
