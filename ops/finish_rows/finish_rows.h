// What follows the projection of queries and cache rows, for several sets of rows in one call (spec: model, sections
// 8.1, 8.2, 8.4 and 8.5). A set goes, in place, through the steps that it asks for, in this order:
//
//   norm      HeadRms, or RmsNorm with a weight, of every row
//   rotation  Rope
//   hadamard  Hadamard
//   rounding  FakeQuantize of the first `rounded` channels
//   storing   ScatterRows of the result: pool[rows[i], :] = x[i, 0, :] for rows[i] >= 0
//
// Each step rounds its result to x's dtype, as the op of its name does: the results are those of the ops one after the
// other.
#pragma once

#include <array>

#include "ops/fake_quantize/fake_quantize.h"
#include "ops/op.h"

namespace vexil {

struct FinishRows {
  static constexpr std::string_view kName = "finish_rows";
  enum class Norm : uint8_t { kNone, kHead, kWeighted };
  struct Set {
    MutTensorView x;  // [n, H, d]  F32 | BF16; tokens may be strided, the heads of one are not. Empty: no set
    Norm norm = Norm::kNone;
    TensorView weight = {};  // [d]  F32 | BF16, of kWeighted
    float eps = 1e-6f;
    TensorView positions = {};  // [n]      I32
    TensorView freqs = {};      // [pairs]  F32; empty: no rotation
    bool inverse = false;
    bool hadamard = false;  // d must be a power of two
    FakeQuantize::Format format = FakeQuantize::Format::kE4M3;
    int64_t block = 64;
    int64_t rounded = 0;      // channels, from the first on
    TensorView rows = {};     // [n]  I32 as in ScatterRows; empty: nothing is stored. With H = 1 only
    MutTensorView pool = {};  // [R, d]  dtype of x
  };
  struct Args {
    std::array<Set, 3> sets = {};  // of one dtype; they do not overlap
  };
  static Status Check(const Args& a);
  static Status CheckSet(const Set& s);
};
template <>
std::span<const Kernel<FinishRows>> Kernels<FinishRows>();

}  // namespace vexil
