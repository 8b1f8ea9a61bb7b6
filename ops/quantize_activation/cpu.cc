#include <algorithm>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/quantize_activation/block_scale.h"
#include "ops/quantize_activation/quantize_activation.h"

namespace vexil::cpu {
namespace {

// Codes of the block x [n] and its scale.
template <class T>
E8M0 QuantizeBlock(const T* x, int64_t n, E4M3* codes) {
  const E8M0 scale = E8M0::FromExponent(ScaleExponent(AbsMax(x, n), kE4M3Scale));
  const float inverse = 1.0f / scale.ToFloat();  // a power of two or NaN: the product is the exact quotient
  for (int64_t i = 0; i < n; ++i) {
    codes[i] = E4M3::From(std::clamp(ToFloat(x[i]) * inverse, -E4M3::kMax, E4M3::kMax));
  }
  return scale;
}

template <class T>
void Rows(const QuantizeActivation::Args& a, int64_t row_begin, int64_t row_end) {
  const int64_t width = a.x.dim(1);
  for (int64_t r = row_begin; r < row_end; ++r) {
    for (int64_t block = 0; block < a.scale.dim(1); ++block) {
      const int64_t begin = block * a.block, n = std::min(a.block, width - begin);
      if (VX_FAULT("short_block_dropped") && n < a.block) continue;
      a.scale.MutRow<E8M0>(r)[block] = QuantizeBlock(a.x.Row<T>(r) + begin, n, a.codes.MutRow<E4M3>(r) + begin);
    }
  }
}

}  // namespace

Support QuantizeActivationPlainSupports(const Context&, const QuantizeActivation::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status QuantizeActivationPlain(const Context& ctx, const QuantizeActivation::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto e) {
    ctx.For(a.x.dim(0), 4, [&](int64_t begin, int64_t end) { Rows<decltype(e)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
