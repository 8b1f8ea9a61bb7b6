// Writes rows to places in a pool:  pool[rows[i], :] = x[i, :]   for rows[i] >= 0
// (the writes of window rows, compressed entries and indexer keys: spec, model, section 11.1). A copy of bytes: no
// rounding. Other rows of the pool are left alone.
#pragma once

#include "ops/op.h"

namespace vexil {

struct ScatterRows {
  static constexpr std::string_view kName = "scatter_rows";
  struct Args {
    TensorView x;        // [M, d]  any dtype
    TensorView rows;     // [M]     I32 in [-1, R), -1: skip; the others distinct
    MutTensorView pool;  // [R, d]  dtype of x; must not overlap x
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<ScatterRows>> Kernels<ScatterRows>();

}  // namespace vexil
