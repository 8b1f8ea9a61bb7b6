// Token embedding:  y[t, s, :] = table[ids[t], :]  for every residual stream s  (spec: model, section 4).
// A copy; when the dtypes differ each element is rounded once to y's dtype.
#pragma once

#include "ops/op.h"

namespace vexil {

struct Embedding {
  static constexpr std::string_view kName = "embedding";
  struct Args {
    TensorView ids;    // [n]        I32, each in [0, V): the caller's duty
    TensorView table;  // [V, D]     BF16 | F32 | F16
    MutTensorView y;   // [n, m, D]  F32 | BF16
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Embedding>> Kernels<Embedding>();

}  // namespace vexil
