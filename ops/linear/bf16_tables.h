// Values of E4M3 and E2M1 codes times a scale, as BF16, for kernels that look codes up instead of computing with them.
// A product of a code and a power of two is exact in BF16 unless it leaves the normal range; then it is rounded like
// BF16::From, and instructions that read it may take a subnormal for zero.
#pragma once

#include <cstdint>

namespace vexil::cpu {

struct alignas(64) Bf16Tables {
  // [scale code]: the low bytes of the values of the 16 codes, then their high bytes; twice, to fill a register.
  uint8_t e2m1[256][64];
  // [scale code]: the high bytes, then the low bytes of the values of the codes without sign.
  struct E4M3Bytes {
    uint8_t high[128], low[128];
  } e4m3[256];
  // What a scale code adds to a normal E4M3 value of which sign, exponent and mantissa stand where BF16 has them: the
  // difference of the exponents, in both halves of a word. kNoExponent where a sum can leave BF16's normal range.
  static constexpr uint32_t kNoExponent = 1;
  uint32_t e4m3_exponent[256];
};

// Made by the first call. Safe to call from any thread.
const Bf16Tables& GetBf16Tables();

}  // namespace vexil::cpu
