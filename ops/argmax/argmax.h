// index[i] = the lowest index of the largest logits[i, :]. NaN never wins; a row of NaN gives 0.
// (spec: model, section 13: greedy decoding.)
#pragma once

#include "ops/op.h"

namespace vexil {

struct Argmax {
  static constexpr std::string_view kName = "argmax";
  struct Args {
    TensorView logits;    // F32 [n, V], V >= 1; rows may be strided
    MutTensorView index;  // I32 [n]
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Argmax>> Kernels<Argmax>();

}  // namespace vexil
