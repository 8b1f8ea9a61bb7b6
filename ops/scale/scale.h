// y = x * factor: the product in f32, one rounding to y's dtype (spec: model, section 8.5, the indexer's head
// weights).
#pragma once

#include "ops/op.h"

namespace vexil {

struct Scale {
  static constexpr std::string_view kName = "scale";
  struct Args {
    TensorView x;  // [n, d]  F32 | BF16; rows may be strided
    float factor = 1;
    MutTensorView y;  // [n, d]  dtype of x; may be x itself
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<Scale>> Kernels<Scale>();

}  // namespace vexil
