// The rows that Sample gives no token for, on the CPU.
#pragma once

#include <cmath>
#include <cstdint>

namespace vexil::cpu {

// Whether a row has a NaN or no finite maximum. `best`: the index of its maximum.
inline bool IsDamaged(const float* logits, int64_t vocab, int64_t best) {
  int64_t nans = 0;  // counted, not searched for, which compilers make vectors of
  for (int64_t v = 0; v < vocab; ++v) nans += logits[v] != logits[v];
  return nans > 0 || !std::isfinite(logits[best]);
}

}  // namespace vexil::cpu
