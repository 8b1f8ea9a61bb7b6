// Several linears over the same rows in one call, as the projections of a layer's input are:
//
//   y_p = round( x_p w_p^T ) * factor_p        for every part p
//
// Arithmetic, rounding and order of summation are those of QuantizeActivation where x is to be rounded, of Linear, then
// of Scale where a factor is not 1: each y_p has the bits that these give, and a row's bits never depend on which other
// parts are in the call.
#pragma once

#include <array>
#include <span>

#include "ops/op.h"

namespace vexil {

struct MultiLinear {
  static constexpr std::string_view kName = "multi_linear";
  static constexpr int kMaxParts = 8;
  struct Part {
    QuantView x;  // [n, K] as in Linear; parts may share it, and one may have the codes of what another has the values
    QuantView w;  // [N, K] as in Linear
    MutTensorView y;  // [n, N] F32 | BF16; rows may be strided; must not overlap any x, w or other y
    float factor = 1;
    bool round_x = false;  // x is F32 | BF16 and first rounded to E4M3, a scale per 128 channels (QuantizeActivation)
  };
  struct Args {
    std::array<Part, kMaxParts> parts;
    int count = 0;  // of parts, at least 1; all have the same n

    std::span<const Part> list() const { return std::span(parts).first(size_t(count)); }
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<MultiLinear>> Kernels<MultiLinear>();

}  // namespace vexil
