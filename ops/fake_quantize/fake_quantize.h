// Quantises and dequantises in place: the rounding that the model was trained with, for values that stay in
// the activation dtype (spec: quantization, sections 4.1, 4.2 and 4.3). One power-of-two scale per `block`
// neighbouring channels of a row; the last block of a row may be short.
//
//   kE4M3:  amax = max( max |x_i|, 1e-4 );      e = ceil(log2( f32(amax * f32(1/448)) ))   KV rows, block 64
//   kE2M1:  amax = max( max |x_i|, 6 * 2^-126 ); e = ceil(log2( f32(amax * f32(1/6)) ))    indexer, block 32
//   x_i  <- round_to_format( clamp(x_i / 2^e, -max, max) ) * 2^e
//
// Exact but for the rounding to the format: every kernel gives the same bits. A NaN or an infinity in a block
// makes the whole block NaN.
#pragma once

#include "ops/op.h"

namespace vexil {

struct FakeQuantize {
  static constexpr std::string_view kName = "fake_quantize";
  enum class Format : uint8_t { kE4M3, kE2M1 };
  struct Args {
    MutTensorView x;  // [rows, cols]  F32 | BF16, in place; rows may be strided
    Format format = Format::kE4M3;
    int64_t block = 64;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<FakeQuantize>> Kernels<FakeQuantize>();

}  // namespace vexil
