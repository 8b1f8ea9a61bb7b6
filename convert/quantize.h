// vexil convert quantize: matrices of an unquantised checkpoint in the published block-scaled formats, or routed
// experts in INT8 (spec: quantization, 3 and 8), with a report of the error of every tensor.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "convert/job.h"
#include "convert/quantize_streams.h"
#include "convert/source.h"

namespace vexil::convert {

struct QuantizeOptions {
  std::optional<Target> experts;  // routed experts; INT8 leaves those of speculative blocks alone
  bool linears = false;           // the other linears as E4M3, those of which the published files do the same
  int64_t shard_bytes = 0;        // of tensors per file; 0: as many as the source's largest file has
};

// Chosen tensors must be plain BF16, F32 or F16 (kInvalidArgument names the first that is not); all others are copied.
// Beside the weights: vexil-quantize.json and vexil-quantize.html.
Result<Job> QuantizeJob(std::shared_ptr<const Source> source, const std::string& output,
                        const QuantizeOptions& options);

// Whether the published files store this matrix as E4M3 with tiles.
bool IsFp8Linear(std::string_view name);

}  // namespace vexil::convert
