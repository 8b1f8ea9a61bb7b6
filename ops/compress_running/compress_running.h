// KV compressor without overlap: one entry per `ratio` tokens, pooled over its own block by a running softmax
// (spec: model, section 8.4, r = 128).
//
// With sc_p = score_p + ape[p % r], for each channel on its own:
//
//   p % r == 0:  (max, sum, acc) = (sc_p, 1, kv_p)
//   otherwise:   max' = maximum(max, sc_p)
//                a = exp(max - max'),  b = exp(sc_p - max')                one of the two is exactly 1
//                (max, sum, acc) = (max', sum * a + b, acc * a + kv_p * b)
//   p % r == r - 1:  emit entry p / r = acc / sum                          = softmax-weighted mean of the block's kv
//
// All in f32, one rounding to the dtype of `entries`.
//
// State: state[slot, p % cap] = (max, sum, acc) after position p. The state after p depends only on the one after p-1
// and on row p, so chunk boundaries do not matter, a new sequence needs no reset, and forgetting the last k tokens is
// free while cap > k.
#pragma once

#include "ops/op.h"

namespace vexil {

struct CompressRunning {
  static constexpr std::string_view kName = "compress_running";
  struct Args {
    TensorView kv;         // [n, d]      F32
    TensorView score;      // [n, d]      F32, without ape
    TensorView ape;        // [ratio, d]  F32, contiguous
    TensorView positions;  // [n]         I32, consecutive within a sequence
    TensorView seq_begin;  // [S + 1]     I32: tokens of sequence s are [seq_begin[s], seq_begin[s+1])
    TensorView slot;       // [S]         I32, distinct: the state of each sequence
    int64_t ratio = 128;
    MutTensorView state;     // [slots, cap, 3, d]  F32, contiguous, cap >= 1; in and out
    TensorView entry_begin;  // [S + 1]  I32: sequence s emits rows [entry_begin[s], entry_begin[s+1]) of `entries`,
                             // as many as end / ratio - first / ratio for its positions [first, end)
    MutTensorView entries;   // [M, d]   F32 | BF16; rows from entry_begin[S] on are left alone
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<CompressRunning>> Kernels<CompressRunning>();

}  // namespace vexil
