// model.safetensors.index.json: which file of a checkpoint holds which tensor (spec: checkpoint, section 1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace vexil {

inline constexpr std::string_view kCheckpointIndexName = "model.safetensors.index.json";

// More than ten times what the largest published checkpoint needs.
inline constexpr int64_t kMaxCheckpointIndexBytes = 256 << 20;

struct CheckpointIndex {
  std::vector<std::pair<std::string, std::string>> weight_map;  // tensor, file; each tensor once
  std::optional<int64_t> total_size;                            // bytes of all tensors
};

// Every file is a plain name: a listed file cannot lie outside the checkpoint's folder. Other members than weight_map
// and metadata.total_size are ignored. kDataLoss; `path` stands in front of messages.
Result<CheckpointIndex> ParseCheckpointIndex(std::string_view text, std::string_view path);

}  // namespace vexil
