#include <algorithm>

#include "ops/elements.h"
#include "ops/fake_quantize/fake_quantize.h"
#include "ops/fault.h"
#include "ops/quantize_activation/block_scale.h"

namespace vexil::cpu {
namespace {

struct ToE4M3 {
  static constexpr ScaleRule kRule = kE4M3Scale;
  static float Round(float v) { return E4M3::From(v).ToFloat(); }
};
struct ToE2M1 {
  static constexpr ScaleRule kRule = kE2M1Scale;
  // The format has no NaN of its own.
  static float Round(float v) { return v != v ? v : E2M1x2::kValues[E2M1x2::Code(v)]; }
};

template <class Format, class T>
void RoundBlock(T* x, int64_t n) {
  const float scale = E8M0::FromExponent(ScaleExponent(AbsMax(x, n), Format::kRule)).ToFloat();
  const float inverse = 1.0f / scale;  // a power of two or NaN: the product is the exact quotient
  const bool mantissa_kept = VX_FAULT("mantissa_kept");
  for (int64_t i = 0; i < n; ++i) {
    const float v = std::clamp(ToFloat(x[i]) * inverse, -Format::kRule.max, Format::kRule.max);
    x[i] = FromFloat<T>((mantissa_kept ? v : Format::Round(v)) * scale);
  }
}

template <class Format, class T>
void Rows(const FakeQuantize::Args& a, int64_t row_begin, int64_t row_end) {
  const int64_t width = VX_FAULT("short_block_dropped") ? a.x.dim(1) / a.block * a.block : a.x.dim(1);
  const int64_t block = VX_FAULT("double_block") ? 2 * a.block : a.block;
  for (int64_t r = row_begin; r < row_end; ++r) {
    T* x = a.x.MutRow<T>(r);
    for (int64_t begin = 0; begin < width; begin += block) {
      RoundBlock<Format>(x + begin, std::min(block, width - begin));
    }
  }
}

}  // namespace

Support FakeQuantizePlainSupports(const Context&, const FakeQuantize::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status FakeQuantizePlain(const Context& ctx, const FakeQuantize::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    ctx.For(a.x.dim(0), 4, [&](int64_t begin, int64_t end) {
      a.format == FakeQuantize::Format::kE4M3 ? Rows<ToE4M3, T>(a, begin, end) : Rows<ToE2M1, T>(a, begin, end);
    });
  });
  return {};
}

}  // namespace vexil::cpu
