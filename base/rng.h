// Random numbers as a pure function of (seed, counter): nothing is stored, so what one request draws does not
// depend on which other requests run beside it.
#pragma once

#include <cstdint>

namespace vexil {

// The output function of SplitMix64: a bijection that mixes every bit of x.
constexpr uint64_t Mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// 64 random bits for draw `counter` of stream `seed`.
constexpr uint64_t RandomBits(uint64_t seed, uint64_t counter) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  return Mix64(Mix64(seed + kGolden) + (counter + 1) * kGolden);
}

// Uniform in [0, 1), a multiple of 2^-24.
constexpr float RandomUniform(uint64_t seed, uint64_t counter) {
  return float(RandomBits(seed, counter) >> 40) * 0x1p-24f;
}

}  // namespace vexil
