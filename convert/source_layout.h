// vexil-source.json beside rank files: what unshard needs to write the original files again, byte for byte. The headers
// and configuration of the source as they were, and the scales of the tensors that sharding dequantises.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "convert/source.h"

namespace vexil::convert {

inline constexpr std::string_view kSourceLayoutName = "vexil-source.json";

struct SourceLayout {
  struct File {
    std::string name;
    std::string header;  // JSON with its padding, without the length
  };
  std::vector<File> files;
  std::string config;  // text of config.json
  std::string index;   // text of model.safetensors.index.json; empty: there was none
  std::map<std::string, std::vector<uint8_t>, std::less<>> scales;  // of wo_a, by the published name of the scale
};

Result<SourceLayout> DescribeSource(const Source& source);

std::string FormatSourceLayout(const SourceLayout& layout);
// kDataLoss; `path` stands in front of messages.
Result<SourceLayout> ParseSourceLayout(std::string_view text, std::string_view path);

}  // namespace vexil::convert
