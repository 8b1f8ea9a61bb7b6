// The streams that several modes use. Every function keeps a reference to the tensor; the job keeps the source alive.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

// Entries [begin, end) of the first dimension as stored; `end` < 0: to its end. Any rank but scalars for a slice.
SafetensorsTensor CopyRows(const SourceTensor& tensor, int64_t begin = 0, int64_t end = -1);

// Storage columns [begin, end) of a matrix as stored.
SafetensorsTensor CopyColumns(const SourceTensor& tensor, int64_t begin, int64_t end);

// Rows [begin, end) of a matrix in any storage, dequantised to BF16.
SafetensorsTensor DequantizeRows(const SourceTensor& matrix, int64_t begin = 0, int64_t end = -1);

}  // namespace vexil::convert
