#include <algorithm>

#include "ops/attention_rows/attention_rows.h"
#include "ops/fault.h"

namespace vexil::cpu {

Support AttentionRowsPlainSupports(const Context&, const AttentionRows::Args&) { return {}; }

// Columns [0, window) of token i.
static void WindowColumns(const AttentionRows::Args& a, int64_t i, int32_t* out) {
  const int32_t* positions = a.positions.Data<int32_t>();
  const int64_t s = a.seq.Data<int32_t>()[i], t = positions[i];
  const int64_t step_begin = a.seq_begin.Data<int32_t>()[s], first = positions[step_begin];
  const int64_t ring = a.step_rows + a.slot.Data<int32_t>()[VX_FAULT("slot_by_token") ? 0 : s] * a.window_capacity;
  const int64_t oldest = std::max<int64_t>(0, t - a.window + (VX_FAULT("window_plus_one") ? 0 : 1));
  const int64_t newest = VX_FAULT("without_itself") ? t - 1 : t;
  int64_t column = 0;
  for (int64_t p = oldest; p <= newest && column < a.window; ++p) {
    const bool in_step = p >= first && !VX_FAULT("ring_only");
    out[column++] = int32_t(in_step ? step_begin + p - first : ring + p % a.window_capacity);
  }
  std::fill(out + column, out + a.window, -1);
}

// The row of entry j of sequence s.
static int32_t EntryRow(const AttentionRows::Args& a, int64_t s, int64_t j) {
  const int64_t block = j / a.entries_per_block;
  VX_DCHECK(block < a.block_table.dim(1), "entry beyond the block table");
  const int64_t page = VX_FAULT("ignored_block_table") ? block : a.block_table.Row<int32_t>(s)[block];
  VX_DCHECK(page >= 0, "entry in a block that the sequence does not have");
  return int32_t(a.step_rows + a.window_rows + page * a.entries_per_block + j % a.entries_per_block);
}

// Columns [window, L) of token i.
static void CompressedColumns(const AttentionRows::Args& a, int64_t i, int32_t* out, int64_t columns) {
  const int64_t s = a.seq.Data<int32_t>()[i], t = a.positions.Data<int32_t>()[i];
  int64_t used = 0;
  if (a.entries_per_block > 0 && !a.picks.empty()) {
    const int32_t* picks = a.picks.Row<int32_t>(i);
    for (; used < a.picks.dim(1); ++used) out[used] = picks[used] < 0 ? -1 : EntryRow(a, s, picks[used]);
  } else if (a.entries_per_block > 0) {
    const int64_t visible = (t + (VX_FAULT("entry_late") ? 0 : 1)) / a.ratio;
    VX_DCHECK(visible <= columns, "rows has too few columns for the entries");
    for (; used < visible; ++used) out[used] = EntryRow(a, s, used);
  }
  std::fill(out + used, out + columns, -1);
}

Status AttentionRowsPlain(const Context& ctx, const AttentionRows::Args& a) {
  ctx.For(a.positions.dim(0), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int32_t* rows = a.rows.MutRow<int32_t>(i);
      WindowColumns(a, i, rows);
      CompressedColumns(a, i, rows + a.window, a.rows.dim(1) - a.window);
    }
  });
  return {};
}

}  // namespace vexil::cpu
