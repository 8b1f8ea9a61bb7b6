// Relevance of every compressed entry to every token, by which the indexer selects (spec: model, section 8.5):
//
//   scores[t, j] = sum over h of relu( q[t,h,:] . key_j ) * w[t,h]        j < count[t]
//   scores[t, j] = -infinity                                              j >= count[t]
//
// key_j is entry j of the token's sequence s = seq[t]: row block_table[s, j / B] * B + j % B of the pool, with
// B = entries_per_block.
//
// BF16: the dot product (f32 accumulation), its product with w and the sum over heads (f32, heads ascending) are each
// rounded to bf16. F32: no rounding beyond f32 arithmetic. The plain kernel's dot product adds 16 interleaved partial
// sums, each in ascending order of channels, by pairwise halving.
#pragma once

#include "ops/op.h"

namespace vexil {

struct IndexerScores {
  static constexpr std::string_view kName = "indexer_scores";
  struct Args {
    TensorView q;            // [n, heads, d]  F32 | BF16
    TensorView w;            // [n, heads]     dtype of q
    TensorView keys;         // [rows, d]      dtype of q: the pool of indexer keys
    TensorView seq;          // [n]            I32 in [0, S)
    TensorView block_table;  // [S, blocks]    I32, -1 unused
    TensorView count;        // [n]            I32 in [0, m]: entries the token may see
    int64_t entries_per_block = 0;
    MutTensorView scores;  // [n, m]  F32
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<IndexerScores>> Kernels<IndexerScores>();

}  // namespace vexil
