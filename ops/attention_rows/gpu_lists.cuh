// The lists of AttentionRows on a GPU: what a list is made of, and the row of a column.
#pragma once

#include "ops/attention_rows/attention_rows.h"
#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

struct Lists {
  const int32_t *positions, *seq, *seq_begin, *slot;
  Rows<const int32_t> block_table, picks;
  int window, window_capacity, per_block, ratio, picks_per_token;
  int64_t step_rows, window_rows;
};

inline Lists ListsOf(const AttentionRows::Args& a) {
  return {DataOf<int32_t>(a.positions),
          DataOf<int32_t>(a.seq),
          DataOf<int32_t>(a.seq_begin),
          DataOf<int32_t>(a.slot),
          RowsOf<int32_t>(a.block_table),
          RowsOf<int32_t>(a.picks),
          int(a.window),
          int(a.window_capacity),
          int(a.entries_per_block),
          int(a.ratio),
          a.picks.empty() ? 0 : int(a.picks.dim(1)),
          a.step_rows,
          a.window_rows};
}

// The list of one token. What all of its columns need is loaded once.
class TokenList {
 public:
  __device__ TokenList(const Lists& lists, int64_t token) : l_(lists), token_(token) {
    s_ = l_.seq[token];
    t_ = l_.positions[token];
    begin_ = l_.seq_begin[s_];
    first_ = l_.positions[begin_];
    ring_ = l_.step_rows + int64_t(l_.slot[s_]) * l_.window_capacity;
    oldest_ = t_ - l_.window + 1 > 0 ? t_ - l_.window + 1 : 0;
    entries_ = l_.per_block > 0 && l_.picks.data == nullptr ? (t_ + 1) / l_.ratio : 0;
  }
  // The row of a column, -1 for none.
  __device__ int32_t At(int column) const {
    if (column >= l_.window) {
      const int c = column - l_.window;
      if (l_.picks.data == nullptr) return c < entries_ ? EntryRow(c) : -1;
      const int32_t pick = l_.per_block > 0 && c < l_.picks_per_token ? l_.picks.at(token_)[c] : -1;
      return pick < 0 ? -1 : EntryRow(pick);
    }
    const int p = oldest_ + column;
    if (p > t_) return -1;
    return p >= first_ ? begin_ + p - first_ : int32_t(ring_ + p % l_.window_capacity);
  }

 private:
  __device__ int32_t EntryRow(int j) const {
    return int32_t(l_.step_rows + l_.window_rows + int64_t(l_.block_table.at(s_)[j / l_.per_block]) * l_.per_block +
                   j % l_.per_block);
  }

  const Lists& l_;
  int64_t token_, ring_;
  int s_, t_, begin_, first_, oldest_, entries_;
};

}  // namespace vexil::gpu
