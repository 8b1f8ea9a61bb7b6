// The second half of the experts (spec: model, section 9.2): the product of their activations with w2, for routed
// experts over (token, expert) pairs and for the shared expert, alone or in one call.
//
//   y[p, :] = round(x[p]) . w2[e]^T   for every pair p of expert e
//
// round() is QuantizeActivation in blocks of 128 where asked for, else x as it is. The arithmetic is that of
// GroupedLinear (Linear without offsets): each row of y has the bits that those ops give.
#pragma once

#include <span>

#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/linear.h"
#include "ops/op.h"

namespace vexil {

struct ExpertDown {
  static constexpr std::string_view kName = "expert_down";
  struct Part {
    QuantView x = {};                    // [P, F] as in GroupedLinear
    bool round = false;                  // x, F32 or BF16, is rounded to E4M3 first
    TensorView offsets = {};             // I32 [E + 1] as in GroupedLinear; empty: one expert takes every row
    std::span<const QuantView> w2 = {};  // E weights [D, F] as in GroupedLinear
    MutTensorView y = {};                // [P, D] F32 | BF16; must not overlap anything else

    bool empty() const { return y.empty(); }
  };
  struct Args {
    Part routed = {}, shared = {};  // at least one of them
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<ExpertDown>> Kernels<ExpertDown>();

}  // namespace vexil
