// Looks for values that no healthy tensor has, as fast as memory delivers them.
#pragma once

#include <cstdint>
#include <span>

#include "base/tensor.h"

namespace vexil::convert {

// Counts over a tensor, or a piece of one.
struct ValueCounts {
  int64_t nan = 0;       // BF16, F16, F32; E4M3 codes 0x7f and 0xff; E8M0 code 255
  int64_t infinite = 0;  // BF16, F16, F32
  int64_t first = -1;    // index of the first of them
  // E8M0: the smallest and largest code.
  uint8_t lowest = 255;
  uint8_t highest = 0;

  bool Healthy() const { return nan == 0 && infinite == 0; }
};

// Adds the values of `bytes`, which begin with element `index` of the tensor. Formats without such values cost nothing.
// `bytes` is aligned for the format and holds whole elements. Safe to call from several threads on different counts.
void CountValues(DType dtype, std::span<const uint8_t> bytes, int64_t index, ValueCounts& counts);

}  // namespace vexil::convert
