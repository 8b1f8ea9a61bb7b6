// Inputs and outputs whose rows lie apart in memory, for conformance cases.
#pragma once

#include <cstring>

#include "testing/conformance.h"

namespace vexil {

// Normal values in a view whose rows (its last dimension) are `padding` poisoned elements apart.
inline MutTensorView NormalRows(TestArena& arena, DType dtype, Dims dims, int64_t padding, double stddev = 1) {
  const MutTensorView values = arena.Normal(dtype, dims, stddev);
  if (padding == 0) return values;
  const MutTensorView v = arena.Padded(dtype, dims, padding);
  const int64_t row = dims[-1] * BytesOf(dtype), stride = (dims[-1] + padding) * BytesOf(dtype);
  for (int64_t r = 0; r * row < values.Bytes(); ++r) {
    std::memcpy(static_cast<char*>(v.mut_raw()) + r * stride, static_cast<const char*>(values.raw()) + r * row,
                size_t(row));
  }
  return v;
}

// The elements between the rows of a float view from NormalRows() or TestArena::Padded(), which must stay NaN.
inline Expected UntouchedPadding(const TensorView& v) {
  const TensorView padding = v.Columns(v.dim(-1), v.stride(v.rank() - 2));
  const size_t count = size_t(padding.dims().Count());
  return {"padding", padding, std::vector<double>(count, std::nan("")), std::vector<double>(count, 0)};
}

}  // namespace vexil
