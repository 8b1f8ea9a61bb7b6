// Linear with a weight per group of rows, the matrix product of a mixture of experts:
//   y[p, j] = sum_k x[rows[p], k] * w[e][j, k]   for every pair p of expert e, offsets[e] <= p < offsets[e + 1]
// (spec: model, section 9.2; quantization, section 5).
//
// Arithmetic, rounding and order of summation are those of Linear: each row of y has the bits that Linear gives
// for the same row of x and the same weight.
#pragma once

#include <span>

#include "ops/op.h"

namespace vexil {

struct GroupedLinear {
  static constexpr std::string_view kName = "grouped_linear";
  struct Args {
    QuantView x;                   // [T, K] as in Linear
    TensorView rows;               // I32 [P]: the row of x of each pair; empty: pair p uses row p, P = T
    TensorView offsets;            // I32 [E + 1], ascending from 0 to P; an expert without pairs costs nothing
    std::span<const QuantView> w;  // E weights [N, K] as in Linear, all of one format
    MutTensorView y;               // [P, N] F32 | BF16; must not overlap x or w
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<GroupedLinear>> Kernels<GroupedLinear>();

}  // namespace vexil
