#include "convert/checkpoint_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "io/checkpoint_index.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/quote.h"
#include "model/tensor_names.h"

namespace vexil::convert {
namespace {

Result<CheckpointIndex> ReadIndex(const std::string& path) {
  VX_ASSIGN(const std::string text, ReadWholeFile(path, kMaxCheckpointIndexBytes));
  return ParseCheckpointIndex(text, path);
}

}  // namespace

Result<CheckpointSet> CheckpointSet::Open(const std::string& path, ProblemList& problems) {
  CheckpointSet set;
  set.path_ = path;
  if (IsDirectory(path)) {
    set.directory_ = path;
    VX_TRY(set.ChooseFiles(problems));
  } else {
    if (!FileExists(path)) return NotFound(fmt::format("{}: found no such file, expected a checkpoint", path));
    if (IsGgufPath(path)) return Unsupported(fmt::format("{}: found a GGUF file, expected safetensors", path));
    const std::filesystem::path file(path);
    set.directory_ = file.has_parent_path() ? file.parent_path().string() : ".";
    set.file_names_ = {file.filename().string()};
  }
  for (const std::string& name : set.file_names_) {
    const std::string file_path = set.is_directory() ? JoinPath(set.directory_, name) : path;
    Result<SafetensorsFile> file = SafetensorsFile::Open(file_path);
    if (!file.ok()) {
      problems.Add(file_path, "", WithoutPath(file.status().message(), file_path));
      continue;
    }
    set.parts_.push_back({name, *std::move(file), ParseRankFileName(name).value_or(RankNumber{})});
  }
  return set;
}

// The files of the index and every other safetensors file: what is there but not listed would silently not be loaded.
Status CheckpointSet::ChooseFiles(ProblemList& problems) {
  VX_ASSIGN(const std::vector<std::string> names, ListDirectory(directory_));
  std::set<std::string> files;
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors")) files.insert(name);
  }
  const std::string index_path = JoinPath(directory_, kCheckpointIndexName);
  if (std::ranges::binary_search(names, kCheckpointIndexName)) {
    const Result<CheckpointIndex> index = ReadIndex(index_path);
    if (!index.ok()) {
      problems.Add(index_path, "", WithoutPath(index.status().message(), index_path));
    } else {
      std::set<std::string> listed;
      for (const auto& [tensor, file] : index->weight_map) listed.insert(file);
      for (const std::string& file : listed) {
        if (!files.contains(file))
          problems.Add(index_path, "", fmt::format("found no file {}, which weight_map names", QuoteName(file)));
      }
      for (const std::string& file : files) {
        if (!listed.contains(file))
          problems.Add(JoinPath(directory_, file), "", "found a file that the index does not name");
      }
    }
  }
  std::map<int, std::set<int>> ranks;  // world -> ranks
  for (const std::string& file : files) {
    if (const auto rank = ParseRankFileName(file)) ranks[rank->world].insert(rank->rank);
  }
  for (const auto& [world, present] : ranks) {
    for (int r = 0; r < world; ++r) {
      if (!present.contains(r))
        problems.Add(directory_, "",
                     fmt::format("found {} of {} rank files, model{}-mp{}.safetensors is missing", present.size(),
                                 world, r, world));
    }
  }
  if (files.empty()) return NotFound(fmt::format("{}: found no .safetensors file, expected a checkpoint", directory_));
  file_names_.assign(files.begin(), files.end());
  return {};
}

void CheckpointSet::CheckIndex(ProblemList& problems) const {
  const std::string path = JoinPath(directory_, kCheckpointIndexName);
  if (!is_directory() || !FileExists(path)) return;
  const Result<CheckpointIndex> index = ReadIndex(path);
  if (!index.ok()) return;  // Open() has said so
  std::map<std::string_view, const CheckpointPart*> holder;
  int64_t bytes = 0;
  for (const CheckpointPart& part : parts_) {
    bytes += part.file.data_bytes();
    for (const TensorInfo& t : part.file.tensors()) holder.emplace(t.name, &part);
  }
  std::set<std::string_view> listed;
  std::set<std::string_view> opened;
  for (const CheckpointPart& part : parts_) opened.insert(part.name);
  for (const auto& [tensor, file] : index->weight_map) {
    listed.insert(tensor);
    const auto it = holder.find(tensor);
    // The tensors of a file that cannot be read are not known.
    if (it == holder.end() && opened.contains(file)) {
      problems.Add(path, tensor, fmt::format("found it in no file, expected it in {}", QuoteName(file)));
    } else if (it != holder.end() && it->second->name != file) {
      problems.Add(path, tensor,
                   fmt::format("found it in {}, expected it in {}", QuoteName(it->second->name), QuoteName(file)));
    }
  }
  for (const auto& [tensor, part] : holder) {
    if (!listed.contains(tensor))
      problems.Add(part->file.path(), std::string(tensor), "found a tensor that the index does not list");
  }
  if (index->total_size && *index->total_size != bytes && parts_.size() == file_names_.size()) {
    problems.Add(
        path, "",
        fmt::format("metadata.total_size: found {}, expected {}, the bytes of all tensors", *index->total_size, bytes));
  }
}

std::vector<TensorGroup> CheckpointSet::Groups(ProblemList& problems) const {
  std::map<std::pair<int, int>, TensorGroup> groups;  // by world and rank
  for (const CheckpointPart& part : parts_) {
    TensorGroup& group = groups[{part.rank.world, part.rank.rank}];
    group.rank = part.rank;
    group.path = part.rank.world > 1 ? part.file.path() : path_;
    for (const TensorInfo& info : part.file.tensors()) {
      const auto [it, inserted] =
          group.tensors.try_emplace(CanonicalTensorName(info.name), TensorGroup::Entry{&part, &info});
      if (inserted) continue;
      problems.Add(part.file.path(), info.name,
                   fmt::format("found it twice, expected it once: also as '{}' in {}", it->second.info->name,
                               QuoteName(it->second.part->name)));
    }
  }
  std::vector<TensorGroup> list;
  for (auto& [key, group] : groups) list.push_back(std::move(group));
  return list;
}

}  // namespace vexil::convert
