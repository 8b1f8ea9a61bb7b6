#include <cmath>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/rms_norm/rms_norm.h"

namespace vexil::cpu {

Support RmsNormPlainSupports(const Context&, const RmsNorm::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(IsFloat(a.weight.dtype()), "weight must be F32 or BF16");
  return {};
}

template <class T, class W>
static void Rows(const RmsNorm::Args& a, int64_t begin, int64_t end) {
  const int64_t d = a.x.dim(1);
  const W* w = a.weight.Data<W>();
  for (int64_t r = begin; r < end; ++r) {
    const T* x = a.x.Row<T>(r);
    T* y = a.y.MutRow<T>(r);
    float sum = 0;
    for (int64_t i = 0; i < d; ++i) sum += ToFloat(x[i]) * ToFloat(x[i]);
    const float eps = VX_FAULT("no_eps") ? 0.0f : a.eps;
    const float mean = sum / float(VX_FAULT("wrong_mean") ? d + 1 : d);
    const float scale = 1.0f / std::sqrt(mean + eps);
    for (int64_t i = 0; i < d; ++i) y[i] = FromFloat<T>(ToFloat(w[i]) * (ToFloat(x[i]) * scale));
  }
}

Status RmsNormPlain(const Context& ctx, const RmsNorm::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto x) {
    WithFloatType(a.weight.dtype(), [&](auto w) {
      ctx.For(a.x.dim(0), 4, [&](int64_t begin, int64_t end) { Rows<decltype(x), decltype(w)>(a, begin, end); });
    });
  });
  return {};
}

}  // namespace vexil::cpu
