#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/quantize_activation/block_scale.h"
#include "ops/quantize_int8/quantize_int8.h"

namespace vexil::cpu {
namespace {

constexpr float kFloor = 1e-10f;

// Codes of the row x [k] and its scale.
template <class T>
float QuantizeRow(const T* x, int64_t k, int8_t* codes) {
  const float amax = AbsMax(x, k);
  if (!std::isfinite(amax)) {
    std::fill_n(codes, k, int8_t(0));
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale =
      (VX_FAULT("no_floor") ? amax : std::max(amax, kFloor)) / (VX_FAULT("scale_128") ? 128.0f : 127.0f);
  for (int64_t i = 0; i < k; ++i) {
    const float q = ToFloat(x[i]) / scale;
    const float rounded = VX_FAULT("truncated") ? std::trunc(q) : std::nearbyint(q);
    codes[i] = int8_t(std::clamp(rounded, -127.0f, 127.0f));
  }
  return scale;
}

}  // namespace

Support QuantizeInt8PlainSupports(const Context&, const QuantizeInt8::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status QuantizeInt8Plain(const Context& ctx, const QuantizeInt8::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0), 4, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        a.scale.MutData<float>()[r] = QuantizeRow(a.x.Row<T>(r), a.x.dim(1), a.codes.MutRow<int8_t>(r));
      }
    });
  });
  return {};
}

}  // namespace vexil::cpu
