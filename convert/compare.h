// Two checkpoints of the same model in any formats, dequantised and compared tensor by tensor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/problems.h"
#include "convert/source.h"

namespace vexil::convert {

// Over all values a of the one and b of the other, the reference.
struct TensorDifference {
  std::string name;         // published
  int64_t count = 0;        // of values
  double max_abs = 0;       // largest |a - b|
  double relative_rms = 0;  // |a - b| / |b|
  double cosine = 1;        // of the angle between them
  int64_t worst = -1;       // index of the value with the largest difference, row by row; -1: all are equal
  int64_t columns = 1;      // of a row
};

struct CompareOptions {
  int threads = 0;                                                 // 0: all processors of this process
  std::function<void(int64_t done, int64_t total)> progress = {};  // values
  const std::atomic<bool>* cancel = nullptr;
};

// In the order of their names. Values: plain ones exactly, quantised ones as the BF16 that they stand for. The stacked
// experts of transformers are taken apart. Tensors that only one has, other shapes and values that are not finite go to
// `problems`. Memory: a few MB per thread. kCancelled, and errors of reading.
Result<std::vector<TensorDifference>> CompareCheckpoints(const Source& checkpoint, const Source& reference,
                                                         const CompareOptions& options, ProblemList& problems);

}  // namespace vexil::convert
