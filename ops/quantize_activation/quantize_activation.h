// Activations for a quantised linear: E4M3 codes with one power-of-two scale per `block` neighbouring
// channels of a row; the last block of a row may be short (spec: quantization, section 4.1).
//
//   amax = max( max |x_i|, 1e-4 );  e = ceil(log2( f32(amax * f32(1/448)) ))
//   scale = 2^e;  codes_i = e4m3( clamp(x_i / 2^e, -448, 448) )
//
// Exact but for the rounding to E4M3: every kernel gives the same bits. A NaN or an infinity in a block makes
// the scale and all codes of that block NaN.
#pragma once

#include "ops/op.h"

namespace vexil {

struct QuantizeActivation {
  static constexpr std::string_view kName = "quantize_activation";
  struct Args {
    TensorView x;         // [n, K]              F32 | BF16; rows may be strided
    MutTensorView codes;  // [n, K]              E4M3
    MutTensorView scale;  // [n, ceil(K/block)]  E8M0
    int64_t block = 128;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<QuantizeActivation>> Kernels<QuantizeActivation>();

}  // namespace vexil
