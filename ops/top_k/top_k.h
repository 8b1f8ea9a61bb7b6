// The largest scores of each row (the indexer's choice, spec: model, section 8.5):
//   indices[i] = the min(k, count[i]) largest of scores[i, 0 .. count[i]), descending, ties to the lower index;
//                the other entries are -1.
// NaN counts as -infinity. O(m + k log k) per row.
#pragma once

#include "ops/op.h"

namespace vexil {

struct TopK {
  static constexpr std::string_view kName = "top_k";
  struct Args {
    TensorView scores;      // F32 [n, m]; rows may be strided
    TensorView count;       // I32 [n]: the valid scores of the row, 0 .. m
    MutTensorView indices;  // I32 [n, k]; k may exceed m
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<TopK>> Kernels<TopK>();

}  // namespace vexil
