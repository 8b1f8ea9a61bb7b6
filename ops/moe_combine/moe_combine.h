// Adds the experts' outputs of each token (spec: model, section 9.3):
//   out[t] = round( ((0 + y[pair of the lowest expert]) + ... + y[pair of the highest expert]) + shared[t] )
// f32 sums in ascending order of expert (equal experts: in slot order), the shared expert last, one rounding. The
// routing weights are already in y (Swiglu applies them before the down projection).
#pragma once

#include "ops/op.h"

namespace vexil {

struct MoeCombine {
  static constexpr std::string_view kName = "moe_combine";
  struct Args {
    TensorView y;        // [n * k, D] F32 | BF16, by pair (MoeDispatch)
    TensorView experts;  // I32 [n, k]
    TensorView pair_of;  // I32 [n, k]: the row of y of each (token, slot)
    TensorView shared;   // [n, D], dtype of y
    MutTensorView out;   // [n, D], dtype of y; may be shared itself
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<MoeCombine>> Kernels<MoeCombine>();

}  // namespace vexil
