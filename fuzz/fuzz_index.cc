// Any text as model.safetensors.index.json: an error, or plain file names.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "io/checkpoint_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const vexil::Result<vexil::CheckpointIndex> index = vexil::ParseCheckpointIndex(text, "input");
  if (!index.ok()) {
    VX_CHECK(index.status().message().find('\n') == std::string_view::npos, "a message of several lines");
    return 0;
  }
  for (const auto& [tensor, file] : index->weight_map) {
    VX_CHECK(!file.empty() && file != ".." && file.find('/') == std::string::npos, "not a plain file name");
  }
  return 0;
}
