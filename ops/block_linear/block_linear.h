// Linear by blocks of columns, each with its own weight (the low-rank output projection of attention; spec: model,
// section 8.8):
//   y[t, g*N + j] = sum_k x[t, g*K + k] * w[g][j, k]
//
// Arithmetic, rounding and order of summation are those of Linear: each block of y has the bits that Linear gives for
// the same columns of x and the same weight.
#pragma once

#include <span>

#include "ops/op.h"

namespace vexil {

struct BlockLinear {
  static constexpr std::string_view kName = "block_linear";
  struct Args {
    TensorView x;                  // [n, G*K] F32 | BF16; rows may be strided
    std::span<const QuantView> w;  // G weights [N, K] as in Linear, of one dtype; slices of E4M3 may differ in blocks
    MutTensorView y;               // [n, G*N] F32 | BF16; rows may be strided; must not overlap x or w
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<BlockLinear>> Kernels<BlockLinear>();

}  // namespace vexil
