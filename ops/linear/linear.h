// Matrix product with a weight in any storage format:  y[i, j] = sum_k x[i, k] * w[j, k]
// (spec: quantization, sections 2, 5 and 8).
//
// Operands are the exactly dequantised values, products and sums are f32, and the result is rounded once to
// y's dtype. Every scale of the E4M3 and E2M1 formats is a power of two, so dequantising first and scaling
// per block are the same mathematics. An I8 weight is w = bf16(q * s) when y is BF16, and f32(q * s) when y
// is F32.
//
// Order of summation: a fixed number of interleaved lanes (lane l takes k = l, l + lanes, ...) inside blocks of
// a fixed length along K; the blocks of a lane are added in ascending order, the lanes last. It depends on K and
// the processor's vector width only: never on n, N, the other rows, the row strides or the thread count.
#pragma once

#include "ops/op.h"

namespace vexil {

struct Linear {
  static constexpr std::string_view kName = "linear";
  struct Args {
    // [n, K] F32 | BF16, or E4M3 with scale E8M0 [n, ceil(K/128)] and blocks {1, 128}. Rows may be strided.
    QuantView x;
    // [N, K], rows contiguous:
    //   F32 | BF16 | F16, no scale
    //   E4M3   with scale E8M0 [ceil(N/128), ceil(K/128)], blocks {128, 128}; or [N, ceil(K/128)], blocks {1, 128}
    //          (a slice of rows that begins inside a tile)
    //   E2M1x2 with scale E8M0 [N, ceil(K/32)], blocks {1, 32}; K even
    //   I8     with scale F32 | BF16 [N], blocks {1, K}
    QuantView w;
    MutTensorView y;  // [n, N] F32 | BF16; rows may be strided; must not overlap x or w
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Linear>> Kernels<Linear>();

}  // namespace vexil
