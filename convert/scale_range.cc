#include "convert/scale_range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/tensor_inventory.h"

namespace vexil::convert {
namespace {

constexpr float kLeast = 0x1p-126f;   // smallest normal BF16 number
constexpr double kMost = 0x1.fep127;  // largest

struct Extremes {
  float least = std::numeric_limits<float>::infinity();  // smallest non-zero magnitude
  float most = 0;

  void Add(float value) {
    const float v = std::fabs(value);
    if (v == 0 || std::isnan(v)) return;
    least = std::min(least, v);
    most = std::max(most, v);
  }
};

Extremes E4M3Block(const TensorView& w, int64_t row, int64_t column) {
  Extremes e;
  for (int64_t r = row; r < std::min(row + kE4M3Block.rows, w.dim(0)); ++r) {
    const E4M3* codes = w.Row<E4M3>(r);
    for (int64_t c = column; c < std::min(column + kE4M3Block.columns, w.dim(1)); ++c) e.Add(codes[c].ToFloat());
  }
  return e;
}

Extremes E2M1Block(const TensorView& w, int64_t row, int64_t column) {
  Extremes e;
  const uint8_t* codes = static_cast<const uint8_t*>(w.raw()) + row * w.dim(1);
  for (int64_t c = column / 2; c < std::min((column + kE2M1Block.columns) / 2, w.dim(1)); ++c) {
    const E2M1x2 pair{codes[c]};
    e.Add(pair.Low());
    e.Add(pair.High());
  }
  return e;
}

}  // namespace

std::optional<SafeCodes> SafeScaleCodes(DType weight) {
  // E4M3 spans 2^-9 to 1.75 * 2^8, E2M1 2^-1 to 1.5 * 2^2; a code b stands for 2^(b-127).
  if (weight == DType::kE4M3) return SafeCodes{127 - 126 + 9, 127 + 127 - 8};
  if (weight == DType::kE2M1x2 || weight == DType::kI8) return SafeCodes{127 - 126 + 1, 127 + 127 - 2};
  return std::nullopt;
}

ScaleRangeFault FindScaleRangeFault(const TensorView& weight, const TensorView& scale) {
  ScaleRangeFault fault;
  const std::optional<SafeCodes> safe = SafeScaleCodes(weight.dtype());
  if (!safe || weight.rank() != 2 || scale.rank() != 2 || scale.dtype() != DType::kE8M0) return fault;
  const bool packed = weight.dtype() != DType::kE4M3;
  const ScaleBlock block = packed ? kE2M1Block : kE4M3Block;
  const Dims logical = {weight.dim(0), packed ? 2 * weight.dim(1) : weight.dim(1)};
  if (scale.dims() != ScaleDims(logical, block)) return fault;  // another scheme, or reported as misshapen
  for (int64_t r = 0; r < scale.dim(0); ++r) {
    const E8M0* codes = scale.Row<E8M0>(r);
    for (int64_t c = 0; c < scale.dim(1); ++c) {
      if ((codes[c].bits >= safe->lowest && codes[c].bits <= safe->highest) || codes[c].bits == 255) continue;
      const Extremes e =
          packed ? E2M1Block(weight, r, c * block.columns) : E4M3Block(weight, r * block.rows, c * block.columns);
      const double s = codes[c].ToFloat();
      if (e.most == 0 || (double(e.least) * s >= kLeast && double(e.most) * s <= kMost)) continue;
      if (fault.count++ == 0) fault = {1, r, c, codes[c].bits};
    }
  }
  return fault;
}

}  // namespace vexil::convert
