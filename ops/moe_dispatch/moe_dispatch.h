// Groups the (token, slot) pairs of a step by expert, for GroupedLinear: a stable sort of the n * k entries of
// `experts`, so that the pairs of one expert are consecutive and in token order (spec: model, section 9.3).
//
//   pairs of expert e:  [offsets[e], offsets[e + 1])
//   pair_of[pair_token[p], pair_slot[p] % k] = p
#pragma once

#include "ops/op.h"

namespace vexil {

struct MoeDispatch {
  static constexpr std::string_view kName = "moe_dispatch";
  struct Args {
    TensorView experts;        // I32 [n, k], entries in [0, num_experts)
    int64_t num_experts = 0;   // E
    MutTensorView offsets;     // I32 [E + 1]
    MutTensorView pair_token;  // I32 [n * k]: the token of each pair
    MutTensorView pair_slot;   // I32 [n * k]: token * k + slot of each pair
    MutTensorView pair_of;     // I32 [n, k]: the pair of each (token, slot)
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<MoeDispatch>> Kernels<MoeDispatch>();

}  // namespace vexil
