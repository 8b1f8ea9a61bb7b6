// vexil convert ungguf: a GGUF file as safetensors under published names, with the configuration and the tokenizer that
// it holds beside them.
//
// MXFP4 experts become what the publisher's are: packed E2M1 with E8M0 scales, the same codes. Other block types become
// BF16: exact for MXFP4, rounded for Q8_0. F32, F16 and BF16 tensors stay as they are.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "convert/job.h"

namespace vexil::convert {

struct UnggufOptions {
  int64_t shard_bytes = 0;  // of tensors per file; 0: 4 GB
};

// `path` names the GGUF file. Its tensors are checked against its configuration: a missing, surplus or misshapen one is
// an error that names it. Errors are those of GgufFile::Open and ReadGgufConfig besides.
Result<Job> UnggufJob(const std::string& path, const std::string& output, const UnggufOptions& options);

}  // namespace vexil::convert
