// Chooses and weighs the experts of each token (spec: model, section 9.1):
//   p[e]    = sqrt(softplus(logits[e]))                 softplus(x) = x for x > 20, else log1p(exp(x))
//   experts = the k largest p[e] + bias[e], descending, ties to the lower index;
//             or, in hash layers, the row tid2eid[id], in the table's order
//   weights = p[e] / (sum of the selected p) * route_scale
// The bias takes part in the selection only. Everything is f32; the sum runs in slot order. A NaN score counts as
// -infinity.
#pragma once

#include "ops/op.h"

namespace vexil {

struct MoeGate {
  static constexpr std::string_view kName = "moe_gate";
  struct Args {
    TensorView logits;   // F32 [n, E]
    TensorView bias;     // F32 [E]; empty: none
    TensorView tid2eid;  // I32 [V, k], entries in [0, E); empty: learned routing
    TensorView ids;      // I32 [n], entries in [0, V); only with tid2eid
    int k = 0;           // experts per token, 1 <= k <= E
    float route_scale = 1;
    MutTensorView experts;  // I32 [n, k]
    MutTensorView weights;  // F32 [n, k]
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<MoeGate>> Kernels<MoeGate>();

}  // namespace vexil
