// vexil make-checkpoint: random weights (convert/random_weights.h) for any configuration, in the published layout, so
// that full-size shapes can be run, converted and verified without a download.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "convert/job.h"

namespace vexil::convert {

enum class DTypePlan : uint8_t {
  kOfficial,  // E4M3 linears, E2M1 experts
  kBf16,      // the same values, dequantised
};

struct MakeOptions {
  std::string config_path = {};  // of either dialect
  uint64_t seed = 0;
  int64_t layers = 0;                // 0: as the configuration says; else its first layers
  int64_t experts = 0;               // 0: likewise
  int64_t draft_layers = 0;          // speculative blocks
  std::vector<int64_t> ratios = {};  // of the layers; empty: the configuration's
  DTypePlan plan = DTypePlan::kOfficial;
  int64_t shard_bytes = 5'000'000'000;
  std::string tokenizer = {};  // a file that becomes tokenizer.json; empty: none
};

// The configuration with the sizes that `options` change.
Result<Json> AdaptConfig(Json config, const MakeOptions& options);

// The job that writes the checkpoint to the directory `output`. Equal options give equal bytes.
Result<Job> MakeCheckpointJob(const MakeOptions& options, const std::string& output);

}  // namespace vexil::convert
