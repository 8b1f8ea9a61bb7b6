#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/scale/scale.h"

namespace vexil::cpu {

Support ScalePlainSupports(const Context&, const Scale::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

template <class T>
static void Rows(const Scale::Args& a, int64_t begin, int64_t end) {
  const float factor = VX_FAULT("factor_rounded") ? BF16::From(a.factor).ToFloat() : a.factor;
  const int64_t width = VX_FAULT("last_column_dropped") ? a.x.dim(1) - 1 : a.x.dim(1);
  for (int64_t r = begin; r < end; ++r) {
    const T* x = a.x.Row<T>(r);
    T* y = a.y.MutRow<T>(r);
    for (int64_t i = 0; i < width; ++i) y[i] = FromFloat<T>(ToFloat(x[i]) * factor);
  }
}

Status ScalePlain(const Context& ctx, const Scale::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto e) {
    ctx.For(a.x.dim(0), 16, [&](int64_t begin, int64_t end) { Rows<decltype(e)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
