// Rows of a matrix in any storage format, dequantised.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

// The scales are read on first use and kept. For one thread at a time. Uses scratch slot 0.
class RowReader {
 public:
  // `matrix` has rank 2; a plain one is F32, BF16 or F16.
  explicit RowReader(const SourceTensor& matrix) : t_(matrix) {}

  // Rows [row, row + rows), dense. Plain F32 and F16 values are rounded to BF16.
  Status ReadBF16(int64_t row, int64_t rows, BF16* out, Scratch& scratch);
  // The same as F32: plain values exactly, quantised ones as their BF16. Uses scratch slots 0 and 1.
  Status ReadF32(int64_t row, int64_t rows, float* out, Scratch& scratch);

  int64_t cols() const { return t_.cols(); }

 private:
  Status LoadScales();

  const SourceTensor& t_;
  std::vector<uint8_t> scales_;
  std::vector<float> row_scales_;  // kInt8
};

}  // namespace vexil::convert
