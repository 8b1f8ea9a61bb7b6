// vexil convert shard: model{R}-mp{N}.safetensors, the files that the published inference program loads (spec:
// checkpoint, 4 and 5), with a configuration in its dialect.
//
// Beyond the published converter a rank's slice may lie inside one scale tile, whose scale it then gets; and the
// headers, configuration and output-projection scales of the source are kept in vexil-source.json, for unshard.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

enum class ShardExperts : uint8_t { kAsStored, kE2M1, kE4M3, kInt8 };

struct ShardOptions {
  int64_t ranks = 1;
  ShardExperts experts = ShardExperts::kAsStored;  // kAsStored and kE2M1 write packed E2M1 as F4
  int64_t o_groups = 0;  // > 0: ranks beyond the output groups are allowed; must be the model's number of groups
};

Result<Job> ShardJob(std::shared_ptr<const Source> source, const std::string& output, const ShardOptions& options);

// The configuration in the inference program's dialect.
Json InferenceDialect(const Source& source);

}  // namespace vexil::convert
