// Overlapping KV compressor: one entry per `ratio` tokens, pooled over two blocks (spec: model, section 8.4, r = 4).
//
// With sc_p = score_p + ape[p % r], entry j of a sequence is, for each channel c in [0, d) on its own,
//
//   candidates:  (kv_p[c],     sc_p[c])      p = (j-1)r .. jr - 1        previous block, first half
//                (kv_p[d + c], sc_p[d + c])  p = jr     .. jr + r - 1    own block, second half
//   w = softmax(candidate scores)            entry_j[c] = sum w * candidate value
//
// Entry 0 has no previous block: those weights are exactly 0. The entry is emitted when position jr + r - 1 is
// processed. All in f32: maximum, exponentials, their sum, quotients, weighted sum, each in candidate order; one
// rounding to the dtype of `entries`.
//
// State: ring[slot, p % cap] = (kv_p, sc_p). Keyed by position, so chunk boundaries do not matter, a new sequence
// needs no reset, and forgetting the last k tokens is free while cap >= 2 * ratio + k.
#pragma once

#include "ops/op.h"

namespace vexil {

struct CompressOverlap {
  static constexpr std::string_view kName = "compress_overlap";
  struct Args {
    TensorView kv;         // [n, 2d]      F32
    TensorView score;      // [n, 2d]      F32, without ape
    TensorView ape;        // [ratio, 2d]  F32, contiguous
    TensorView positions;  // [n]          I32, consecutive within a sequence
    TensorView seq_begin;  // [S + 1]      I32: tokens of sequence s are [seq_begin[s], seq_begin[s+1])
    TensorView slot;       // [S]          I32, distinct: the ring of each sequence
    int64_t ratio = 4;
    MutTensorView ring;      // [slots, cap, 2, 2d]  F32, contiguous, cap >= 2 * ratio; in and out
    TensorView entry_begin;  // [S + 1]  I32: sequence s emits rows [entry_begin[s], entry_begin[s+1]) of `entries`,
                             // as many as end / ratio - first / ratio for its positions [first, end)
    MutTensorView entries;   // [M, d]   F32 | BF16; rows from entry_begin[S] on are left alone
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<CompressOverlap>> Kernels<CompressOverlap>();

}  // namespace vexil
