#include <cmath>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/head_rms/head_rms.h"

namespace vexil::cpu {

Support HeadRmsPlainSupports(const Context&, const HeadRms::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

// The value after a step of the chain: rounded to the activation dtype.
template <class T>
static float Rounded(float v) {
  return ToFloat(FromFloat<T>(v));
}

template <class T>
static float SumOfSquares(const T* x, int64_t d) {
  constexpr int64_t kLanes = 8;
  const auto square = [exact = VX_FAULT("squares_not_rounded")](T v) {
    const float s = ToFloat(v) * ToFloat(v);
    return exact ? s : Rounded<T>(s);
  };
  float lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lane[l] += square(x[i + l]);
  }
  for (int64_t l = 0; i + l < d; ++l) lane[l] += square(x[i + l]);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return lane[0];
}

template <class T>
static void NormalizeHead(float eps, T* x, int64_t d) {
  float m = SumOfSquares(x, d) / float(VX_FAULT("wrong_mean") ? d + 1 : d);
  if (!VX_FAULT("mean_not_rounded")) m = Rounded<T>(m);
  m += VX_FAULT("no_eps") ? 0.0f : eps;
  if (!VX_FAULT("eps_sum_not_rounded")) m = Rounded<T>(m);
  float r = 1.0f / std::sqrt(m);
  if (!VX_FAULT("rsqrt_not_rounded")) r = Rounded<T>(r);
  for (int64_t i = 0; i < d; ++i) x[i] = FromFloat<T>(ToFloat(x[i]) * r);
}

Status HeadRmsPlain(const Context& ctx, const HeadRms::Args& a) {
  const int64_t heads = a.x.dim(1), d = a.x.dim(2);
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0) * heads, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        NormalizeHead(a.eps, a.x.MutRow<T>(i / heads) + i % heads * a.x.stride(1), d);
      }
    });
  });
  return {};
}

}  // namespace vexil::cpu
