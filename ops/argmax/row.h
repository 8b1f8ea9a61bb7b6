// The argmax of one row, for Argmax and for the greedy rows of Sample.
#pragma once

#include <cstdint>

#include "ops/fault.h"

namespace vexil::cpu {

// The lowest index of the largest value; NaN never wins; 0 when every value is NaN.
inline int32_t ArgmaxOfRow(const float* v, int64_t count) {
  const bool ties_to_higher = VX_FAULT("ties_to_higher"), nan_wins = VX_FAULT("nan_wins");
  int64_t best = -1;
  for (int64_t i = 0; i < count; ++i) {
    if (v[i] != v[i] && !nan_wins) continue;
    if (best < 0 || v[i] > v[best] || (ties_to_higher && v[i] == v[best]) || v[i] != v[i]) best = i;
  }
  return best < 0 ? 0 : int32_t(best);
}

}  // namespace vexil::cpu
