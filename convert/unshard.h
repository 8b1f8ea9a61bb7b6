// vexil convert unshard: the rank files of a model-parallel checkpoint as one checkpoint again.
//
// With vexil-source.json beside the ranks (vexil convert shard writes it) and nothing cast, the original files come
// back byte for byte. The output projections wo_a are the one thing that sharding dequantises: value = code * 2^e with
// a known e, so code = value / 2^e is the only candidate, and each one is checked by expanding it again. Without that
// file, or when experts were cast, the tensors are joined as they are, in the published layout.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/job.h"

namespace vexil::convert {

// `path`: a directory with model{R}-mp{N}.safetensors for all N ranks, and config.json unless `config_path` names one.
// Tensors that several ranks hold are compared while they are copied; a difference is kDataLoss.
// The job's remarks say what cannot be as it was.
Result<Job> UnshardJob(const std::string& path, const std::string& config_path, const std::string& output,
                       int64_t shard_bytes);

}  // namespace vexil::convert
