// HcHead in vectors: the same bits as the plain kernel (ops/hc_pre/mixes-inl.h).
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/hc_head/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

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
  return WithMixes(ctx, a.h, a.fn, [&](auto element, int64_t begin, int64_t end, float* mixes) {
    HcHeadTokens<decltype(element)>(a, begin, end, mixes);
  });
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support HcHeadVectorsSupport(const Context& ctx, const HcHead::Args& a) { return VectorsTakeStreams(ctx, a.h); }

HWY_EXPORT(HcHeadVectors);
VX_VECTOR_KERNELS(HcHead)

}  // namespace vexil::cpu
#endif
