// Block rounding by its definition in float64, exact: for the cases of QuantizeActivation and FakeQuantize.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/float_formats.h"
#include "ops/elements.h"
#include "testing/strided.h"

namespace vexil {

struct RoundedBlock {
  double scale;
  std::vector<double> codes;  // the value of each code; times scale: of each element
};

// A format as the list of its finite non-negative values in the order of their codes, and the least amax.
struct TargetFormat {
  std::vector<double> magnitudes;
  double floor;
};
inline TargetFormat E4M3Format() {
  TargetFormat f{{}, double(1e-4f)};
  for (int code = 0; code <= 0x7e; ++code) f.magnitudes.push_back(E4M3{uint8_t(code)}.ToFloat());
  return f;
}
inline TargetFormat E2M1Format() { return {{0, 0.5, 1, 1.5, 2, 3, 4, 6}, 6 * 0x1p-126}; }

// The member nearest to v, ties to the even code.
inline double NearestMagnitude(const std::vector<double>& magnitudes, double v) {
  const size_t above = size_t(std::lower_bound(magnitudes.begin(), magnitudes.end(), v) - magnitudes.begin());
  if (above == magnitudes.size()) return magnitudes.back();
  if (above == 0) return magnitudes.front();
  const double down = v - magnitudes[above - 1], up = magnitudes[above] - v;
  const bool take_above = up < down || (up == down && above % 2 == 0);
  return magnitudes[take_above ? above : above - 1];
}

inline RoundedBlock RoundBlock(const double* x, int64_t n, const TargetFormat& format) {
  double amax = format.floor;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    finite = finite && std::isfinite(x[i]);
    amax = std::max(amax, std::abs(x[i]));
  }
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (!finite) return {kNan, std::vector<double>(size_t(n), kNan)};
  const double max = format.magnitudes.back();
  double scale = 0x1p-126;
  while (amax > max * scale) scale *= 2;
  while (amax <= max * scale / 2) scale /= 2;
  RoundedBlock block{scale, {}};
  for (int64_t i = 0; i < n; ++i) {
    block.codes.push_back(std::copysign(NearestMagnitude(format.magnitudes, std::abs(x[i]) / scale), x[i]));
  }
  return block;
}

// How the values of a case are spread.
enum class BlockValues {
  kNormal,
  kEdges,      // each row scaled to a largest value at, just above or just below max * 2^e, for many e; ties
  kTiny,       // all zero, below the floor, subnormal
  kNonFinite,  // NaN or an infinity here and there
};
constexpr const char* NameOf(BlockValues v) {
  constexpr const char* kNames[] = {"normal", "edges", "tiny", "nonfinite"};
  return kNames[int(v)];
}

// Rounds v to a neighbour in the dtype: 0 the nearest, +1 the one above, -1 below.
inline double Neighbour(DType t, double v, int side) {
  const double step = std::ldexp(t == DType::kBF16 ? 0x1p-7 : 0x1p-23, std::ilogb(v));
  return RoundTo(t, v + side * step);
}

// Row r, column c of a case with that spread; `normal` is a standard normal draw, `max` the format's largest value.
inline double BlockValue(BlockValues kind, DType t, double max, int64_t r, int64_t c, double normal) {
  switch (kind) {
    case BlockValues::kNormal:
      return normal;
    case BlockValues::kEdges: {
      const double edge = std::ldexp(max, int(r * 7 % 40) - 20);
      if (c % 16 == 3) return Neighbour(t, edge, int(r % 3) - 1);
      return std::ldexp(std::nearbyint(normal * 8), int(r * 7 % 40) - 22);  // many values halfway between codes
    }
    case BlockValues::kTiny:
      return r % 3 == 0 ? 0 : r % 3 == 1 ? normal * 1e-6 : normal * 1e-39;
    case BlockValues::kNonFinite:
      if (c == 5) return r % 2 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
      return normal;
  }
  return 0;
}

// A case's input [rows, width] with that spread; its rows are `padding` poisoned elements apart.
inline MutTensorView FillBlocks(TestArena& arena, DType t, Dims dims, int64_t padding, BlockValues kind, double max) {
  const MutTensorView x = NormalRows(arena, t, dims, padding);
  for (int64_t r = 0; r < dims[0]; ++r) {
    for (int64_t c = 0; c < dims[1]; ++c) {
      WithFloatType(t, [&](auto e) {
        using T = decltype(e);
        T& v = x.MutRow<T>(r)[c];
        v = FromFloat<T>(float(BlockValue(kind, t, max, r, c, double(ToFloat(v)))));
      });
    }
  }
  return x;
}

}  // namespace vexil
