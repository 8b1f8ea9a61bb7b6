#include "ops/linear/bf16_tables.h"

#include <memory>

#include "base/float_formats.h"

namespace vexil::cpu {
namespace {

std::unique_ptr<Bf16Tables> Make() {
  auto t = std::make_unique<Bf16Tables>();
  for (int s = 0; s < 256; ++s) {
    const float scale = E8M0{uint8_t(s)}.ToFloat();
    for (int i = 0; i < 64; ++i) {
      const BF16 v = BF16::From(E2M1x2::kValues[i % 16] * scale);
      t->e2m1[s][i] = uint8_t(i / 16 % 2 ? v.bits >> 8 : v.bits);
    }
    for (int i = 0; i < 128; ++i) {
      const BF16 v = BF16::From(E4M3{uint8_t(i)}.ToFloat() * scale);
      t->e4m3[s].high[i] = uint8_t(v.bits >> 8);
      t->e4m3[s].low[i] = uint8_t(v.bits);
    }
    // Both scales and BF16 have a bias of 127, E4M3 one of 7; its exponents are 1 to 15.
    const int difference = s - 7;
    const bool normal = 1 + difference >= 1 && 15 + difference <= 254;
    t->e4m3_exponent[s] = normal ? uint32_t(difference << 7) * 0x10001u : Bf16Tables::kNoExponent;
  }
  return t;
}

}  // namespace

const Bf16Tables& GetBf16Tables() {
  static const std::unique_ptr<Bf16Tables> kTables = Make();
  return *kTables;
}

}  // namespace vexil::cpu
