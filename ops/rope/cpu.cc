#include <cmath>
#include <vector>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/rope/rope.h"

namespace vexil::cpu {
namespace {

struct Rotation {
  float cos, sin;
};

// The rotation of every pair at position t: shared by all heads of a token.
void RotationsAt(int32_t t, const Rope::Args& a, std::vector<Rotation>& rotations) {
  const float* freqs = a.freqs.Data<float>();
  const float position = float(VX_FAULT("position_after") ? t + 1 : t);
  for (size_t i = 0; i < rotations.size(); ++i) {
    double angle = position * freqs[i];
    if (VX_FAULT("angle_not_rounded")) angle = double(position) * double(freqs[i]);
    const float sin = float(std::sin(angle));
    rotations[i] = {float(std::cos(angle)), a.inverse && !VX_FAULT("inverse_ignored") ? -sin : sin};
  }
}

template <class T>
void RotateHead(const std::vector<Rotation>& rotations, T* x, bool halves) {
  const size_t pairs = rotations.size();
  for (size_t i = 0; i < pairs; ++i) {
    T& first = halves ? x[i] : x[2 * i];
    T& second = halves ? x[i + pairs] : x[2 * i + 1];
    const float a = ToFloat(first), b = ToFloat(second);
    const auto [cos, sin] = rotations[i];
    first = FromFloat<T>(a * cos - b * sin);
    second = FromFloat<T>(a * sin + b * cos);
  }
}

template <class T>
void Tokens(const Rope::Args& a, int64_t begin, int64_t end) {
  const int64_t first_channel = VX_FAULT("first_channels") ? 0 : a.x.dim(2) - 2 * a.freqs.dim(0);
  const bool halves = VX_FAULT("halves_not_neighbours");
  std::vector<Rotation> rotations(size_t(a.freqs.dim(0)));
  for (int64_t t = begin; t < end; ++t) {
    RotationsAt(a.positions.Data<int32_t>()[t], a, rotations);
    for (int64_t h = 0; h < a.x.dim(1); ++h) {
      RotateHead(rotations, a.x.MutRow<T>(t) + h * a.x.stride(1) + first_channel, halves);
    }
  }
}

}  // namespace

Support RopePlainSupports(const Context&, const Rope::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status RopePlain(const Context& ctx, const Rope::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto e) {
    ctx.For(a.x.dim(0), 4, [&](int64_t begin, int64_t end) { Tokens<decltype(e)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
