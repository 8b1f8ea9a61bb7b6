// The first half of the experts: both products of their input and the gated activation between them and the last
// product (spec: model, section 9.2), for routed experts over (token, expert) pairs and for the shared expert, alone or
// in one call:
//
//   y[p, :] = Swiglu(x[rows[p]] . w1[e]^T, x[rows[p]] . w3[e]^T)   for every pair p of expert e
//
// The arithmetic is that of GroupedLinear (Linear without offsets) and of Swiglu, and both products are rounded to y's
// dtype in between: each row of y has the bits that those ops give.
#pragma once

#include <span>

#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/linear.h"
#include "ops/op.h"
#include "ops/swiglu/swiglu.h"

namespace vexil {

struct ExpertGate {
  static constexpr std::string_view kName = "expert_gate";
  struct Part {
    QuantView x = {};         // [T, K] as in GroupedLinear
    TensorView rows = {};     // I32 [P] as in GroupedLinear
    TensorView offsets = {};  // I32 [E + 1] as in GroupedLinear; empty: one expert takes every row, P = T
    std::span<const QuantView> w1 = {}, w3 = {};  // E weights [F, K] each, as in GroupedLinear: gate and linear part
    TensorView row_weight = {};                   // as in Swiglu
    TensorView row_index = {};                    // as in Swiglu, [P]
    float limit = 0;                              // as in Swiglu
    MutTensorView y = {};                         // [P, F] F32 | BF16; must not overlap anything else

    bool empty() const { return y.empty(); }
    GroupedLinear::Args Product(std::span<const QuantView> w, MutTensorView to) const {
      return {.x = x, .rows = rows, .offsets = offsets, .w = w, .y = to};
    }
    Swiglu::Args Activation(TensorView gate, TensorView up) const {
      return {.a = gate, .b = up, .row_weight = row_weight, .row_index = row_index, .limit = limit, .y = y};
    }
  };
  struct Args {
    Part routed = {}, shared = {};  // at least one of them
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<ExpertGate>> Kernels<ExpertGate>();

}  // namespace vexil
