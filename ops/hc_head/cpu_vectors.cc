// HcHead in vectors: the same bits as the plain kernel (ops/hc_pre/mixes-inl.h).
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/hc_head/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/elements.h"
#include "ops/hc_head/hc_head.h"
#include "ops/hc_pre/hc_math.h"
#include "ops/hc_pre/mixes-inl.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

template <class T>
void HcHeadTokens(const HcHead::Args& a, int64_t begin, int64_t end, const float* mixes) {
  const int64_t m = a.h.dim(1);
  for (int64_t t = begin; t < end; ++t) {
    const float r = InverseRmsOfStreams<T>(a.h, t, a.norm_eps);
    float pre[HcHead::kMaxStreams];
    for (int64_t s = 0; s < m; ++s) {
      pre[s] = Sigmoid(mixes[t * m + s] * r * a.scale.Data<float>()[0] + a.base.Data<float>()[s]) + a.hc_eps;
    }
    MixStreamsInto(a.h, t, pre, a.x.MutRow<T>(t));
  }
}

Status HcHeadVectors(const Context& ctx, const HcHead::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  float* mixes = ctx.workspace->Allocate<float>(a.h.dim(0) * a.fn.dim(0));
  WithFloatType(a.h.dtype(), [&](auto e) {
    using T = decltype(e);
    MultiplyStreams<T>(ctx, a.h, a.fn, mixes,
                       [&](int64_t begin, int64_t end) { HcHeadTokens<T>(a, begin, end, mixes); });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support HcHeadVectorsSupport(const Context& ctx, const HcHead::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(IsFloat(a.h.dtype()), "h must be F32 or BF16");
  VX_REQUIRE(a.h.dim(2) % 16 == 0, "D must be a multiple of 16");
  return {};
}

HWY_EXPORT(HcHeadVectors);
VX_VECTOR_KERNELS(HcHead)

}  // namespace vexil::cpu
#endif
