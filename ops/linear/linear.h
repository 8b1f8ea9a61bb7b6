// Matrix product with a weight in any storage format:  y[i, j] = sum_k x[i, k] * w[j, k]
// (spec: quantization, sections 2, 5 and 8).
//
// Operands are the exactly dequantised values, products and sums are f32, and the result is rounded once to
// y's dtype. Every scale of the E4M3 and E2M1 formats is a power of two, so dequantising first and scaling
// per block are the same mathematics. An I8 weight is w = bf16(q * s) when y is BF16, and f32(q * s) when y
// is F32.
//
// With I8 x and I8 w (W8A8) the sum is over the codes, exact in int32, and the scales come last:
//   y[i, j] = ( f32(sum_k xq[i, k] * wq[j, k]) * sx[i] ) * sw[j]
// each product rounded to f32 and the last one to y's dtype, so every kernel gives the same bits.
//
// Order of summation. It depends on K and on the kernel only: never on n, N, the other rows, the row strides or the
// thread count. The kernel depends on the dtypes and the processor, not on n, so a row of x has the same bits in a
// prompt and alone.
//   plain       16 lanes (lane l takes k = l, l + 16, ...) inside blocks of 256; the blocks of a lane in ascending
//               order, the lanes last. Products and sums are rounded one by one.
//   portable, avx2, avx512
//               as many lanes as a vector has, up to 16, inside blocks of 512, with a fused multiply-add where the
//               processor has one; then the blocks, then the lanes by halving.
//   avx512bf16  x and w as BF16. Lane l of 16 takes the pairs k = 2 l, 2 l + 1 (mod 32) in ascending order, two
//               products per VDPBF16PS; then the lanes by halving.
//   amx         x and w as BF16. TDPBF16PS sums the even and the odd k of blocks of 32 apart, each in ascending order,
//               and adds their sum to the total of the blocks before.
// In the last two products are exact, and subnormal operands, products and sums count as zero. x as F32, w as F32 or
// F16, and I8 with F32 y have values that BF16 does not have: the levels before serve them.
#pragma once

#include "ops/op.h"

namespace vexil {

struct Linear {
  static constexpr std::string_view kName = "linear";
  struct Args {
    // [n, K] F32 | BF16, or E4M3 with scale E8M0 [n, ceil(K/128)] and blocks {1, 128}. Rows may be strided.
    // For I8 w also I8 with scale F32 [n], blocks {1, K}; K up to 2^17.
    QuantView x;
    // [N, K], rows contiguous:
    //   F32 | BF16 | F16, no scale
    //   E4M3   with scale E8M0 [ceil(N/128), ceil(K/128)], blocks {128, 128}; or [N, ceil(K/128)], blocks {1, 128}
    //          (a slice of rows that begins inside a tile)
    //   E2M1x2 with scale E8M0 [N, ceil(K/32)], blocks {1, 32}; K even
    //   I8     with scale F32 | BF16 [N], blocks {1, K}
    //   Q8_0 | MXFP4, no scale: each block of 32 has its own; K a multiple of 32
    QuantView w;
    MutTensorView y;  // [n, N] F32 | BF16; rows may be strided; must not overlap x or w
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Linear>> Kernels<Linear>();

}  // namespace vexil
