#include "ops/linear/bf16_tables.h"

#include <memory>

#include "base/float_formats.h"

namespace vexil::cpu {
namespace {

std::unique_ptr<Bf16Tables> Make() {
  auto t = std::make_unique<Bf16Tables>();
  for (int s = 0; s < 256; ++s) {
    const float scale = E8M0{uint8_t(s)}.ToFloat();
    for (int i = 0; i < 32; ++i) t->e2m1[s][i] = BF16::From(E2M1x2::kValues[i % 16] * scale).bits;
    for (int i = 0; i < 128; ++i) {
      const BF16 v = BF16::From(E4M3{uint8_t(i)}.ToFloat() * scale);
      t->e4m3[s].high[i] = uint8_t(v.bits >> 8);
      t->e4m3[s].low[i] = uint8_t(v.bits);
    }
  }
  return t;
}

}  // namespace

const Bf16Tables& GetBf16Tables() {
  static const std::unique_ptr<Bf16Tables> tables = Make();
  return *tables;
}

}  // namespace vexil::cpu
