#include "convert/quantizers.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace vexil::convert {
namespace {

E8M0 LeastScale(float amax, float inverse_max, float floor) {
  if (amax < floor) amax = floor;
  const uint32_t bits = std::bit_cast<uint32_t>(amax * inverse_max);
  const int exponent = int(bits >> 23);  // biased; the product is positive
  if (exponent >= 255) return {255};
  const int code = exponent + ((bits & 0x7fffffu) != 0 ? 1 : 0);
  return {uint8_t(std::min(code, 255))};
}

}  // namespace

float AbsMax(const float* x, int64_t n) {
  // On bit patterns NaN is above infinity, which is above every number.
  uint32_t max = 0;
  for (int64_t i = 0; i < n; ++i) max = std::max(max, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return std::bit_cast<float>(max);
}

E8M0 ScaleForE4M3(float amax) { return LeastScale(amax, 1.0f / E4M3::kMax, E4M3::kMax * 0x1p-126f); }
E8M0 ScaleForE2M1(float amax) { return LeastScale(amax, 1.0f / E2M1x2::kMax, E2M1x2::kMax * 0x1p-126f); }

void EncodeE4M3(const float* x, int64_t n, E8M0 scale, E4M3* out) {
  const float inverse = 1.0f / scale.ToFloat();  // a power of two: the product is the exact quotient
  for (int64_t i = 0; i < n; ++i) out[i] = E4M3::From(x[i] * inverse);
}

void EncodeE2M1(const float* x, int64_t n, E8M0 scale, E2M1x2* out) {
  const float inverse = 1.0f / scale.ToFloat();
  for (int64_t i = 0; i < n; i += 2) {
    out[i / 2].bits = uint8_t(E2M1x2::Code(x[i] * inverse) | E2M1x2::Code(x[i + 1] * inverse) << 4);
  }
}

float ScaleForInt8(float amax) { return std::max(amax, 1e-10f) / 127.0f; }

void EncodeInt8(const float* x, int64_t n, float scale, int8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float v = std::nearbyint(x[i] / scale);
    out[i] = v != v ? int8_t(0) : int8_t(std::clamp(v, -128.0f, 127.0f));
  }
}

}  // namespace vexil::convert
