#include "io/checkpoint_index.h"

#include <fmt/format.h>

#include "base/json.h"
#include "io/quote.h"

namespace vexil {
namespace {

Status CheckFileName(std::string_view name) {
  constexpr std::string_view kSeparators("/\\\0", 3);
  if (name.empty() || name == "." || name == ".." || name.find_first_of(kSeparators) != name.npos) {
    return DataLoss(fmt::format("the file is {}, expected a plain file name", QuoteName(name)));
  }
  return {};
}

Result<CheckpointIndex> ReadIndex(const Json& root) {
  if (!root.is_object()) return DataLoss(fmt::format("index is a JSON {}, expected an object", root.TypeName()));
  const Json* map = root.Find("weight_map");
  if (map == nullptr) return DataLoss("weight_map is missing");
  if (!map->is_object()) return DataLoss(fmt::format("weight_map is a JSON {}, expected an object", map->TypeName()));
  if (map->object()->empty()) return DataLoss("weight_map is empty");
  CheckpointIndex index;
  for (const auto& [tensor, file] : *map->object()) {
    const std::string where = "weight_map " + QuoteName(tensor);
    if (!file.is_string()) {
      return DataLoss(fmt::format("{}: the file is a JSON {}, expected a string", where, file.TypeName()));
    }
    if (Status status = CheckFileName(*file.string()); !status.ok()) return std::move(status).Prefix(where);
    index.weight_map.emplace_back(tensor, *file.string());
  }
  const Json* metadata = root.Find("metadata");
  const Json* total = metadata == nullptr ? nullptr : metadata->Find("total_size");
  if (total == nullptr) return index;
  index.total_size = total->Int();
  if (!index.total_size || *index.total_size < 0) {
    const std::string found = total->is_number() ? total->number()->text : fmt::format("a JSON {}", total->TypeName());
    return DataLoss(fmt::format("metadata.total_size is {}, expected an integer from 0 to 2^63 - 1", found));
  }
  return index;
}

}  // namespace

Result<CheckpointIndex> ParseCheckpointIndex(std::string_view text, std::string_view path) {
  Result<Json> root = Json::Parse(text);
  if (!root.ok()) {
    if (root.status().code() != Code::kInvalidArgument) return std::move(root).TakeError().Prefix(path);
    return DataLoss(fmt::format("{}: {}", path, root.status().message()));
  }
  Result<CheckpointIndex> index = ReadIndex(*root);
  if (!index.ok()) return std::move(index).TakeError().Prefix(path);
  return index;
}

}  // namespace vexil
