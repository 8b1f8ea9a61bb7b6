// vexil convert dequantize: FP4, FP8 and INT8 matrices as BF16 under published names (spec: quantization, 7 and 8).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

struct DequantizeOptions {
  int64_t shard_bytes = 0;  // of tensors per file; 0: as many as the source's largest file has
};

// The job keeps `source` alive.
Result<Job> DequantizeJob(std::shared_ptr<const Source> source, const std::string& output,
                          const DequantizeOptions& options);

}  // namespace vexil::convert
