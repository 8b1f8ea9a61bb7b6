// Block scales whose products cannot be stored in BF16 without loss.
#pragma once

#include <cstdint>
#include <optional>

#include "base/tensor.h"

namespace vexil::convert {

struct ScaleRangeFault {
  int64_t count = 0;            // scales
  int64_t row = 0, column = 0;  // of the first
  uint8_t code = 0;             // its E8M0 code
};

// `weight` is E4M3 [n, k] with `scale` [ceil(n/128), ceil(k/128)], or packed E2M1 (kE2M1x2 or kI8 [n, k/2]) with
// [n, ceil(k/32)]; other pairs have no fault. A block counts when one of its non-zero values times the scale is below
// 2^-126 or above the largest BF16 number. Only blocks with an extreme scale are looked at.
ScaleRangeFault FindScaleRangeFault(const TensorView& weight, const TensorView& scale);

// Scales with a code in [first, second] can have no such product, whatever the values of the block.
struct SafeCodes {
  uint8_t lowest, highest;
};
std::optional<SafeCodes> SafeScaleCodes(DType weight);

}  // namespace vexil::convert
