// Orthonormal Hadamard rotation of rows, in place (spec: model, section 8.4):
//   x[r, :] = ( H * x[r, :] ) * f32(d^-1/2),   H[i][j] = (-1)^popcount(i & j)
// Butterflies in f32 at distances 1, 2, 4, ..., d/2 (each stage a + b and a - b), then the factor, then one
// rounding to x's dtype.
#pragma once

#include "ops/op.h"

namespace vexil {

struct Hadamard {
  static constexpr std::string_view kName = "hadamard";
  struct Args {
    MutTensorView x;  // [rows, d]  F32 | BF16, in place; d a power of two; rows may be strided
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Hadamard>> Kernels<Hadamard>();

}  // namespace vexil
