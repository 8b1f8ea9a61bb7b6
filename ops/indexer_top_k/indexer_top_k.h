// The compressed entries that the indexer chooses for every token (spec: model, section 8.5): IndexerScores, then TopK
// over its scores, without a matrix of all scores.
//
//   indices[t] = the min(k, count[t]) best entries by score, descending, equal scores by lower index; then -1
#pragma once

#include "ops/indexer_scores/indexer_scores.h"
#include "ops/op.h"
#include "ops/top_k/top_k.h"

namespace vexil {

struct IndexerTopK {
  static constexpr std::string_view kName = "indexer_top_k";
  struct Args {
    TensorView q;            // as in IndexerScores, with `keys` and the lists below
    TensorView w;            // [n, heads]
    TensorView keys;         // [rows, d]
    TensorView seq;          // [n]            I32
    TensorView block_table;  // [S, blocks]    I32
    TensorView count;        // [n]            I32 in [0, max_count]
    int64_t entries_per_block = 0;
    int64_t max_count = 0;  // at most what the blocks hold
    MutTensorView indices;  // [n, k]  I32
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<IndexerTopK>> Kernels<IndexerTopK>();

// What the two ops get for tokens [begin, end).
inline IndexerScores::Args ScoresOf(const IndexerTopK::Args& a, int64_t begin, int64_t end, MutTensorView scores) {
  return {.q = a.q.Rows(begin, end),
          .w = a.w.Rows(begin, end),
          .keys = a.keys,
          .seq = a.seq.Rows(begin, end),
          .block_table = a.block_table,
          .count = a.count.Rows(begin, end),
          .entries_per_block = a.entries_per_block,
          .scores = scores};
}
inline TopK::Args TopKOf(const IndexerTopK::Args& a, int64_t begin, int64_t end, TensorView scores) {
  return {.scores = scores, .count = a.count.Rows(begin, end), .indices = a.indices.Rows(begin, end)};
}

}  // namespace vexil
