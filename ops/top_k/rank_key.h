// Ranking by score as ranking of integers: descending score, ties to the lower index, NaN like -infinity.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace vexil {

// Smaller keys rank first. Keys of different indices differ, so every selection by key has one answer.
inline uint64_t RankKey(float score, uint32_t index) {
  const float v = std::isnan(score) ? -std::numeric_limits<float>::infinity() : score + 0.0f;  // -0 ties with 0
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  // Ascending in v as an unsigned integer: negative floats order backwards by their bits.
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t(~ascending) << 32 | index;
}
inline int32_t RankedIndex(uint64_t key) { return int32_t(uint32_t(key)); }
// The score, where -0 and NaN have become 0 and -infinity.
inline float RankedScore(uint64_t key) {
  const uint32_t ascending = ~uint32_t(key >> 32);
  return std::bit_cast<float>(ascending & 0x80000000u ? ascending & 0x7fffffffu : ~ascending);
}

}  // namespace vexil
