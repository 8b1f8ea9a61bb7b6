// MoeGate, then MoeDispatch: the experts of each token, their weights, and the (token, expert) pairs by expert (spec:
// model, sections 9.1 and 9.3).
#pragma once

#include "ops/moe_dispatch/moe_dispatch.h"
#include "ops/moe_gate/moe_gate.h"
#include "ops/op.h"

namespace vexil {

struct MoeRoute {
  static constexpr std::string_view kName = "moe_route";
  struct Args {
    MoeGate::Args gate;     // `experts` contiguous
    MutTensorView offsets;  // these four as in MoeDispatch
    MutTensorView pair_token;
    MutTensorView pair_slot;
    MutTensorView pair_of;

    MoeDispatch::Args dispatch() const {
      return {.experts = gate.experts,
              .num_experts = gate.logits.dim(1),
              .offsets = offsets,
              .pair_token = pair_token,
              .pair_slot = pair_slot,
              .pair_of = pair_of};
    }
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<MoeRoute>> Kernels<MoeRoute>();

}  // namespace vexil
