// The gated activation of an expert, between its two projections (spec: model, section 9.2):
//
//   gate = min(a, limit);  up = clamp(b, -limit, limit)                  limit 0: no clamp
//   y[r, :] = silu(gate) * up * weight(r)                                silu(v) = v / (1 + exp(-v))
//
// weight(r) is 1 without row_weight, row_weight[r] without row_index, else row_weight[row_index[r]]: the
// routing weight goes in before the down projection. f32 in the order ((silu * up) * weight), one rounding to
// y's dtype.
#pragma once

#include "ops/op.h"

namespace vexil {

struct Swiglu {
  static constexpr std::string_view kName = "swiglu";
  struct Args {
    TensorView a;                // [rows, F]  F32 | BF16, the gate; rows may be strided
    TensorView b;                // [rows, F]  dtype of a, the linear part; rows may be strided
    TensorView row_weight = {};  // F32, contiguous, any shape, read as a flat list; or empty
    TensorView row_index = {};   // [rows]     I32 into row_weight: the caller's duty; or empty
    float limit = 0;
    MutTensorView y;  // [rows, F]  dtype of a; may be a or b itself
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Swiglu>> Kernels<Swiglu>();

}  // namespace vexil
