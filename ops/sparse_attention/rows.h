// The rows that SparseAttention's lists name.
#pragma once

#include "ops/sparse_attention/sparse_attention.h"

namespace vexil::cpu {

// A row index counts through step_kv, then window_kv, then compressed_kv.
template <class T>
const T* RowAt(const SparseAttention::Args& a, int64_t row) {
  const int64_t step = a.step_kv.dim(0), window = a.window_kv.empty() ? 0 : a.window_kv.dim(0);
  if (row < step) return a.step_kv.Row<T>(row);
  if (row < step + window) return a.window_kv.Row<T>(row - step);
  VX_DCHECK(!a.compressed_kv.empty() && row < step + window + a.compressed_kv.dim(0), "row beyond the last pool");
  return a.compressed_kv.Row<T>(row - step - window);
}

}  // namespace vexil::cpu
