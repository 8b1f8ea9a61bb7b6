// The list of KV rows that each token attends to, in the order of the sum (spec: model, sections 8.3, 8.6, 8.7).
//
// A row index r counts through three tensors laid end to end, as SparseAttention reads them:
//
//   [0, step_rows)                       the rows of this step, by token
//   [step_rows, step_rows + window_rows) the window rings: slot * window_capacity + p % window_capacity
//   from step_rows + window_rows         the pool of compressed entries: block_table[s, j / B] * B + j % B
//
// Token at position t of sequence s, B = entries_per_block:
//
//   columns [0, window)   positions max(0, t - window + 1) .. t ascending, then -1. A position of this step is read
//                         from the step, an earlier one from the ring (which is written after attention)
//   columns [window, L)   entries picks[t, :] in pick order (-1 stays -1 in its column); without picks every entry
//                         j < (t + 1) / ratio ascending; then -1. With B = 0 there is no compressed part
#pragma once

#include "ops/op.h"

namespace vexil {

struct AttentionRows {
  static constexpr std::string_view kName = "attention_rows";
  struct Args {
    TensorView positions;         // [n]          I32, consecutive within a sequence
    TensorView seq;               // [n]          I32 in [0, S)
    TensorView seq_begin;         // [S + 1]      I32: tokens of sequence s are [seq_begin[s], seq_begin[s+1])
    TensorView slot;              // [S]          I32: the window ring of each sequence
    TensorView block_table = {};  // [S, blocks]  I32, -1 unused; empty when entries_per_block is 0
    int64_t window = 0;
    int64_t window_capacity = 0;    // positions a ring holds, >= window
    int64_t entries_per_block = 0;  // 0: no compressed part
    int64_t ratio = 0;              // tokens per entry; read only without picks
    TensorView picks = {};          // [n, K]  I32 entry of the token's sequence, -1 none; empty: every visible entry
    int64_t step_rows = 0;
    int64_t window_rows = 0;  // slots * window_capacity
    MutTensorView rows;       // [n, L]  I32, L >= window + (K or the most entries a token sees)
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<AttentionRows>> Kernels<AttentionRows>();

}  // namespace vexil
