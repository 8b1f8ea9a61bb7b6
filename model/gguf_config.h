// The configuration of a model as the metadata of a GGUF file, both ways. Keys are those that llama.cpp reads and
// writes for this architecture (docs/checkpoints.md, "GGUF").
#pragma once

#include <string>

#include "base/status.h"
#include "io/gguf.h"
#include "model/config.h"

namespace vexil {

inline constexpr std::string_view kGgufArchitecture = "deepseek4";

// The configuration of an open file, checked as one that was read from JSON. Errors name the file and the key.
Result<ModelConfig> ReadGgufConfig(const GgufFile& file);

// The metadata that ReadGgufConfig reads. Draft layers are left out, as their tensors are.
GgufMetadata GgufConfigMetadata(const ModelConfig& config);

// The same numbers as a config.json of the published kind.
Result<std::string> GgufConfigJson(const GgufFile& file);

}  // namespace vexil
