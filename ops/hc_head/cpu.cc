#include <vector>

#include "ops/fault.h"
#include "ops/hc_head/hc_head.h"
#include "ops/hc_pre/hc_math.h"

namespace vexil::cpu {

Support HcHeadPlainSupports(const Context&, const HcHead::Args& a) {
  VX_REQUIRE(IsFloat(a.h.dtype()), "h must be F32 or BF16");
  return {};
}

template <class T>
static void Tokens(const HcHead::Args& a, int64_t begin, int64_t end) {
  const int64_t m = a.h.dim(1), d = a.h.dim(2);
  const float scale = VX_FAULT("no_scale") ? 1.0f : a.scale.Data<float>()[0];
  const float eps = VX_FAULT("no_hc_eps") ? 0.0f : a.hc_eps;
  std::vector<float> u(size_t(m * d));
  for (int64_t t = begin; t < end; ++t) {
    FlattenStreams<T>(a.h, t, u.data());
    const float r = InverseRms(u.data(), m * d, a.norm_eps);
    float pre[HcHead::kMaxStreams];
    for (int64_t s = 0; s < m; ++s) {
      const float mix = LaneDot(a.fn.Row<float>(s), u.data(), m * d) * r;
      pre[VX_FAULT("streams_reversed") ? m - 1 - s : s] = Sigmoid(mix * scale + a.base.Data<float>()[s]) + eps;
    }
    MixStreams(u.data(), pre, m, d, a.x.MutRow<T>(t));
  }
}

Status HcHeadPlain(const Context& ctx, const HcHead::Args& a) {
  WithFloatType(a.h.dtype(), [&](auto e) {
    ctx.For(a.h.dim(0), 4, [&](int64_t begin, int64_t end) { Tokens<decltype(e)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
