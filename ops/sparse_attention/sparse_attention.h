// Multi-query attention over a list of rows per token; each row is both key and value (spec: model, section 8.7).
//
//   l_i = (q_h . v_i) * scale            over the rows v_i that the token lists; -1 is no row
//   M   = max_i l_i
//   P_i = exp(l_i - M)
//   Z   = sum_i P_i + exp(sink[h] - M)   the sink joins the denominator only, unscaled, and not the maximum
//   y_h = (sum_i P_i * v_i) / Z          0 when the token lists no row at all
//
// A row index counts through step_kv, then window_kv, then compressed_kv, laid end to end (AttentionRows makes the
// lists).
//
// Order, part of the result: the list is taken in blocks of 64 columns (-1 counted) with online softmax. A block moves
// M to its own maximum if that is larger, multiplies the running sum and accumulator by exp(M_before - M), then adds:
// to Z the sum of the block's P, to the accumulator P_i * v_i, columns ascending. With BF16 activations P_i is rounded
// to bf16 where it multiplies v_i, while Z takes the unrounded P_i; f32 otherwise. The division comes last, then one
// rounding to y. The plain kernel's dot product adds 16 interleaved partial sums, each in ascending order of channels,
// by pairwise halving.
#pragma once

#include "ops/op.h"

namespace vexil {

struct SparseAttention {
  static constexpr std::string_view kName = "sparse_attention";
  static constexpr int64_t kBlock = 64;  // columns per step of the online softmax
  struct Args {
    TensorView q;                   // [n, H, d]  F32 | BF16
    TensorView rows;                // [n, L]     I32 row indices, -1 none
    TensorView step_kv;             // [Rs, d]    dtype of q
    TensorView window_kv = {};      // [Rw, d]    dtype of q; may be empty
    TensorView compressed_kv = {};  // [Rc, d]    dtype of q; may be empty
    TensorView sink;                // [H]        F32
    float scale = 0;
    MutTensorView y;  // [n, H, d]  dtype of q; not q itself
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<SparseAttention>> Kernels<SparseAttention>();

}  // namespace vexil
