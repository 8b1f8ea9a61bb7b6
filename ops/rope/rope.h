// Rotary position embedding of the last 2 * pairs channels of every head, in place (spec: model, section 7.2).
// Pair i is the two neighbouring channels (2i, 2i + 1) of that part; with t = positions[token]:
//
//   angle  = f32( f32(t) * freqs[i] );  c = f32(cos(angle));  s = f32(sin(angle))
//   (a, b) <- (a*c - b*s, a*s + b*c)
//
// `inverse` negates s. cos and sin are taken in f64 of the f32 angle, so the range reduction is exact up to
// t = 2^20 and beyond. The rest is f32, one rounding to x's dtype. Frequencies: ops/rope/frequencies.h.
#pragma once

#include "ops/op.h"

namespace vexil {

struct Rope {
  static constexpr std::string_view kName = "rope";
  struct Args {
    MutTensorView x;       // [n, H, d]  F32 | BF16, in place; rows and heads may be strided
    TensorView positions;  // [n]        I32
    TensorView freqs;      // [pairs]    F32 radians per position, 2 * pairs <= d
    bool inverse = false;
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Rope>> Kernels<Rope>();

}  // namespace vexil
