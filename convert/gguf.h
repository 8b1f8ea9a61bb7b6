// vexil convert gguf: a checkpoint as one GGUF file with everything that `vexil generate` needs (docs/checkpoints.md).
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

inline constexpr std::string_view kGgufFileName = "model.gguf";

// Types of the large matrices. The others keep theirs; vectors become F32 and indices I32, as llama.cpp wants them.
struct GgufOptions {
  DType experts = DType::kMXFP4;  // routed experts: F32, F16, BF16, Q8_0 or MXFP4
  DType weights = DType::kBF16;   // projections of attention and indexer, shared experts: the same types
};

// The job keeps `source` alive. Tensors of speculative blocks are left out. kInvalidArgument: a type does not suit the
// width of a matrix, or tokenizer.json is missing.
Result<Job> GgufJob(std::shared_ptr<const Source> source, const std::string& output, const GgufOptions& options);

}  // namespace vexil::convert
