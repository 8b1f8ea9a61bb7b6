#include "convert/repack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace vexil::convert {
namespace {

// Below this exponent every E2M1 value becomes zero: 6 * 2^-13 is less than half of E4M3's least value 2^-9.
constexpr int kLeastExponent = -13;
constexpr int kExponents = kRepackShift - kLeastExponent + 1;

struct Table {
  uint8_t codes[16];  // E4M3 of value * 2^exponent
  bool inexact[16];
  bool any_inexact;
};

struct Tables {
  Table of[kExponents];
  Tables() {
    for (int i = 0; i < kExponents; ++i) {
      Table& t = of[i];
      t.any_inexact = false;
      for (int c = 0; c < 16; ++c) {
        const float value = std::ldexp(E2M1x2::kValues[c], i + kLeastExponent);
        const E4M3 code = E4M3::From(value);
        t.codes[c] = code.bits;
        t.inexact[c] = code.ToFloat() != value;
        t.any_inexact |= t.inexact[c];
      }
    }
  }
};

}  // namespace

int RepackedScale(int largest) { return largest == 255 || largest < kRepackShift ? -1 : largest - kRepackShift; }

int64_t RepackRow(const E2M1x2* pairs, int64_t n, const E8M0* scales, const E8M0* tile_scales, E4M3* out) {
  static const Tables kTables;
  constexpr int64_t kGroup = 32, kGroupsPerTile = 4;
  int64_t rounded = 0;
  for (int64_t g = 0; g < n / kGroup; ++g) {
    const int exponent = int(scales[g].bits) - int(tile_scales[g / kGroupsPerTile].bits);
    const Table& t = kTables.of[std::clamp(exponent, kLeastExponent, kRepackShift) - kLeastExponent];
    for (int64_t i = 0; i < kGroup / 2; ++i) {
      const uint8_t pair = pairs[g * kGroup / 2 + i].bits;
      out[g * kGroup + 2 * i].bits = t.codes[pair & 15];
      out[g * kGroup + 2 * i + 1].bits = t.codes[pair >> 4];
    }
    if (!t.any_inexact) continue;
    for (int64_t i = 0; i < kGroup / 2; ++i) {
      const uint8_t pair = pairs[g * kGroup / 2 + i].bits;
      rounded += int64_t(t.inexact[pair & 15]) + int64_t(t.inexact[pair >> 4]);
    }
  }
  return rounded;
}

}  // namespace vexil::convert
