#include <cmath>
#include <vector>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/hadamard/hadamard.h"

namespace vexil::cpu {
namespace {

// v <- H * v in Sylvester's order.
void Butterflies(float* v, int64_t d) {
  const int64_t last = VX_FAULT("last_stage_missing") ? d / 2 : d;
  for (int64_t distance = 1; distance < last; distance *= 2) {
    for (int64_t begin = 0; begin < d; begin += 2 * distance) {
      for (int64_t i = begin; i < begin + distance; ++i) {
        const float a = v[i], b = v[i + distance];
        v[i] = a + b;
        v[i + distance] = a - b;
      }
    }
  }
}

template <class T>
void Rows(const Hadamard::Args& a, int64_t begin, int64_t end) {
  const int64_t d = a.x.dim(1);
  const float factor = VX_FAULT("not_normalized") ? 1.0f : float(1.0 / std::sqrt(double(d)));
  const bool rounded_before_factor = VX_FAULT("rounded_before_factor");
  std::vector<float> v(static_cast<size_t>(d));
  for (int64_t r = begin; r < end; ++r) {
    T* x = a.x.MutRow<T>(r);
    for (int64_t i = 0; i < d; ++i) v[size_t(i)] = ToFloat(x[i]);
    Butterflies(v.data(), d);
    for (int64_t i = 0; i < d; ++i) {
      const float sum = rounded_before_factor ? ToFloat(FromFloat<T>(v[size_t(i)])) : v[size_t(i)];
      x[i] = FromFloat<T>(sum * factor);
    }
  }
}

}  // namespace

Support HadamardPlainSupports(const Context&, const Hadamard::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status HadamardPlain(const Context& ctx, const Hadamard::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto e) {
    ctx.For(a.x.dim(0), 16, [&](int64_t begin, int64_t end) { Rows<decltype(e)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
