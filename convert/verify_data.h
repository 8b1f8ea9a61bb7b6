// Reads every byte of a checkpoint once: checksums and values.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/status.h"
#include "convert/checkpoint_set.h"
#include "convert/problems.h"
#include "io/manifest.h"

namespace vexil::convert {

struct DataOptions {
  int threads = 0;          // 0: all processors of this process
  int64_t num_experts = 0;  // tables name experts below this; 0: not known
  // Called from time to time, from any thread but one at a time.
  std::function<void(int64_t done, int64_t total)> progress;
  const std::atomic<bool>* cancel = nullptr;
};

// The checksums of all parts, in their order and that of their tensors. What is wrong with values goes to `problems`:
//   bytes that cannot be read
//   NaN and infinity in F32, F16, BF16; E4M3 NaN codes; E8M0 code 255;
//   E8M0 scales that take a value of their block out of BF16's normal range (spec: quantization, 7);
//   token-to-expert tables with an expert out of range, or twice in a row.
// Memory: less than 1 MB per thread. kCancelled, and errors of opening a file again.
Result<std::vector<ManifestFile>> CheckData(const CheckpointSet& set, const DataOptions& options,
                                            ProblemList& problems);

}  // namespace vexil::convert
