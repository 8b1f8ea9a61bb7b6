// Streams that put slices together.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

// A slice of a tensor as several ranks hold it, at least one. All of them are read: a difference is kDataLoss.
using Copies = std::vector<const SourceTensor*>;

// The slices' bytes one after the other.
std::unique_ptr<TensorStream> JoinRows(std::vector<Copies> slices);

// Row by row the rows of all slices, which are matrices, side by side; the granule is a joined row.
std::unique_ptr<TensorStream> JoinColumns(std::vector<Copies> slices);

// BF16 values, rows of `cols`, as the E4M3 codes that expand to exactly them under `scales` (one per 128 x 128 tile);
// kDataLoss when there is a value without such a code. Granule: a row of codes.
std::unique_ptr<TensorStream> RequantizeExactly(std::unique_ptr<TensorStream> values, int64_t cols,
                                                std::vector<uint8_t> scales, std::string name);

// Bytes in memory.
std::unique_ptr<TensorStream> FixedBytes(std::vector<uint8_t> bytes);

}  // namespace vexil::convert
