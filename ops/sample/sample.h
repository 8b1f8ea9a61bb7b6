// Draws a token from each row of logits (spec: model, section 13; the filters are those of the OpenAI-style APIs).
//
// temperature <= 0: the argmax, ties to the lower index. Otherwise, in this order:
//   1. p = softmax(logits / max(temperature, 1e-5))
//   2. top_k > 0:  keep the top_k most probable tokens
//   3. top_p < 1:  of those, keep the shortest prefix in descending order whose share of the mass left by step 2
//                  reaches top_p; the token that crosses it is kept, and at least one token is
//   4. min_p > 0:  of those, keep the tokens with p >= min_p * max p
//   5. renormalise and return the first token whose cumulative probability exceeds `uniform`
// The cumulative order of step 5 is descending probability, ties to the lower index. A row without any filter needs
// no sort and accumulates in index order instead: the distribution is the same, the token of a given `uniform` is
// not. Only rows with top_k or top_p count as filtered by rank; min_p alone also keeps the index order.
//
// Exponentials and sums are float64; -infinity has probability 0. A row with a NaN or without a finite maximum, which
// only damaged weights give, has no token: kNoToken. A row's result depends on that row and its parameters alone.
#pragma once

#include "ops/op.h"

namespace vexil {

struct Sample {
  static constexpr std::string_view kName = "sample";
  static constexpr int32_t kNoToken = -1;
  struct Args {
    TensorView logits;       // F32 [n, V], V >= 1; rows may be strided
    TensorView temperature;  // F32 [n]; <= 0: greedy
    TensorView top_k;        // I32 [n]; <= 0: off
    TensorView top_p;        // F32 [n]; >= 1: off
    TensorView min_p;        // F32 [n]; <= 0: off
    TensorView uniform;      // F32 [n], in [0, 1): the random number that decides the row
    MutTensorView token;     // I32 [n]; kNoToken: none
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Sample>> Kernels<Sample>();

}  // namespace vexil
