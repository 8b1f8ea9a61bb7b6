// HeadRms in vectors: the same bits as the plain kernel. 16 elements are squared and rounded at a time, and added as
// two times 8 lanes, which is the order that the header fixes.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/head_rms/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "ops/elements.h"
#include "ops/head_rms/head_rms.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

// The value after a step of the chain: rounded to the activation dtype.
template <class T>
HWY_INLINE Floats RoundedPack(const Floats& v) {
  if constexpr (std::is_same_v<T, BF16>) return RoundToBf16(v);
  return v;
}
template <class T>
HWY_INLINE float Rounded(float v) {
  return ToFloat(FromFloat<T>(v));
}

template <class T>
void NormalizeHead(float eps, T* x, int64_t d) {
  EightSums sum;
  for (int64_t i = 0; i < d; i += kLanes) {
    const Floats v = Load(x + i);
    sum.Add(RoundedPack<T>(v * v));
  }
  const float m = Rounded<T>(Rounded<T>(sum.Total() / float(d)) + eps);
  const Floats r = Set(Rounded<T>(1.0f / std::sqrt(m)));
  for (int64_t i = 0; i < d; i += kLanes) Store(Load(x + i) * r, x + i);
}

Status HeadRmsVectors(const Context& ctx, const HeadRms::Args& a) {
  constexpr int64_t kHeads = 16;  // some microseconds of work
  const int64_t heads = a.x.dim(1);
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0) * heads, kHeads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        NormalizeHead(a.eps, a.x.MutRow<T>(i / heads) + i % heads * a.x.stride(1), a.x.dim(2));
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

static Support HeadRmsVectorsSupport(const Context&, const HeadRms::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(2) % 16 == 0, "d must be a multiple of 16");
  return {};
}

HWY_EXPORT(HeadRmsVectors);
VX_VECTOR_KERNELS(HeadRms)

}  // namespace vexil::cpu
#endif
