#include "io/checkpoint_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "io/checkpoint_index.h"
#include "io/file.h"
#include "io/quote.h"

namespace vexil {
namespace {

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kSingleName = "model.safetensors";

// A file's place among the files of one checkpoint.
struct Part {
  uint32_t number;
  uint32_t count;
};

// The two families of names. Numbers are written back and compared, so "model07-mp8" is no rank file.
std::string ShardName(Part part) {
  return fmt::format("model-{:05}-of-{:05}{}", part.number, part.count, kSuffix);  // numbered from 1
}
std::string RankName(Part part) {
  return fmt::format("model{}-mp{}{}", part.number, part.count, kSuffix);  // numbered from 0
}

// The numbers in `name` after `before` and after `between`.
std::optional<Part> ParsePart(std::string_view name, std::string_view before, std::string_view between) {
  if (!name.starts_with(before)) return std::nullopt;
  const char* const end = name.data() + name.size();
  Part part;
  const auto [middle, error] = std::from_chars(name.data() + before.size(), end, part.number);
  const std::string_view rest(middle, static_cast<size_t>(end - middle));
  if (error != std::errc() || !rest.starts_with(between)) return std::nullopt;
  if (std::from_chars(middle + between.size(), end, part.count).ec != std::errc()) return std::nullopt;
  return part;
}

std::optional<Part> ParseShardName(std::string_view name) {
  const std::optional<Part> part = ParsePart(name, "model-", "-of-");
  if (!part || part->number < 1 || part->number > part->count || ShardName(*part) != name) return std::nullopt;
  return part;
}

std::optional<Part> ParseRankName(std::string_view name) {
  const std::optional<Part> part = ParsePart(name, "model", "-mp");
  // The bound keeps the world within int and far beyond any machine.
  constexpr uint32_t kMaxWorld = 1 << 20;
  if (!part || part->number >= part->count || part->count > kMaxWorld || RankName(*part) != name) return std::nullopt;
  return part;
}

// What a directory without an index offers.
struct Candidates {
  bool single = false;  // kSingleName
  std::vector<Part> shards;
  std::vector<Part> ranks;
  std::vector<std::string> others;
};

Candidates Sort(std::span<const std::string> names) {
  Candidates found;
  for (const std::string& name : names) {
    if (name == kSingleName) {
      found.single = true;
    } else if (const auto shard = ParseShardName(name)) {
      found.shards.push_back(*shard);
    } else if (const auto rank = ParseRankName(name)) {
      found.ranks.push_back(*rank);
    } else if (name.ends_with(kSuffix)) {
      found.others.push_back(name);
    }
  }
  return found;
}

Status Ambiguous(std::string_view first, std::string_view second) {
  return InvalidArgument(fmt::format(
      "found {} and {}, expected the files of one checkpoint; pass one file instead of the directory", first, second));
}

// Every number from `first` on must be there, and all parts must be of the same count.
Status CheckComplete(std::span<const Part> parts, uint32_t first, std::string (*name)(Part)) {
  std::set<uint32_t> numbers;
  for (const Part& part : parts) {
    if (part.count != parts[0].count) return Ambiguous(name(parts[0]), name(part));
    numbers.insert(part.number);
  }
  for (uint32_t i = 0; i < parts[0].count; ++i) {
    if (numbers.contains(first + i)) continue;
    return NotFound(fmt::format("{} is missing, {} of {} files are there", name({first + i, parts[0].count}),
                                parts.size(), parts[0].count));
  }
  return {};
}

// The files to open, by name; see CheckpointFiles::Open.
Result<std::vector<std::string>> ChooseFiles(std::span<const std::string> names) {
  Candidates found = Sort(names);
  if (found.single && !found.shards.empty()) return Ambiguous(kSingleName, ShardName(found.shards[0]));
  if (found.single && !found.ranks.empty()) return Ambiguous(kSingleName, RankName(found.ranks[0]));
  if (!found.shards.empty() && !found.ranks.empty()) {
    return Ambiguous(ShardName(found.shards[0]), RankName(found.ranks[0]));
  }
  if (found.single) return std::vector{std::string(kSingleName)};
  if (!found.shards.empty()) {
    VX_TRY(CheckComplete(found.shards, 1, ShardName));
    std::vector<std::string> files;
    for (const Part& part : found.shards) files.push_back(ShardName(part));
    return files;
  }
  if (!found.ranks.empty()) {
    VX_TRY(CheckComplete(found.ranks, 0, RankName));
    return std::vector{RankName({0, found.ranks[0].count})};
  }
  if (found.others.size() > 1) return Ambiguous(QuoteName(found.others[0]), QuoteName(found.others[1]));
  if (found.others.empty()) return NotFound("directory holds no .safetensors file");
  return std::move(found.others);
}

std::string FileNameOf(const std::string& path) { return std::filesystem::path(path).filename().string(); }

}  // namespace

std::optional<RankNumber> ParseRankFileName(std::string_view name) {
  const std::optional<Part> part = ParseRankName(name);
  if (!part) return std::nullopt;
  return RankNumber{static_cast<int>(part->number), static_cast<int>(part->count)};
}

Result<CheckpointFiles> CheckpointFiles::Open(const std::string& path) {
  CheckpointFiles checkpoint;
  checkpoint.path_ = path;
  if (IsDirectory(path)) {
    VX_TRY(checkpoint.OpenDirectory());
  } else {
    VX_TRY(IsGgufPath(path) ? checkpoint.OpenGguf() : checkpoint.OpenFiles({path}));
  }
  return checkpoint;
}

Status CheckpointFiles::OpenDirectory() {
  VX_ASSIGN(const std::vector<std::string> names, ListDirectory(path_));
  if (std::ranges::binary_search(names, kCheckpointIndexName)) return OpenIndexed();
  Result<std::vector<std::string>> files = ChooseFiles(names);
  if (!files.ok()) return std::move(files).TakeError().Prefix(path_);
  std::vector<std::string> paths;
  for (const std::string& name : *files) paths.push_back(JoinPath(path_, name));
  return OpenFiles(paths);
}

Status CheckpointFiles::OpenGguf() {
  VX_ASSIGN(GgufFile file, GgufFile::Open(path_));
  gguf_ = std::make_unique<const GgufFile>(std::move(file));
  total_bytes_ = gguf_->data_bytes();
  for (const TensorInfo& tensor : gguf_->tensors()) index_.emplace(tensor.name, Place{&tensor, 0});
  return {};
}

Status CheckpointFiles::OpenIndexed() {
  const std::string index_path = JoinPath(path_, kCheckpointIndexName);
  VX_ASSIGN(const std::string text, ReadWholeFile(index_path, kMaxCheckpointIndexBytes));
  VX_ASSIGN(const CheckpointIndex index, ParseCheckpointIndex(text, index_path));
  std::set<std::string_view> names;
  for (const auto& [tensor, file] : index.weight_map) names.insert(file);
  std::vector<std::string> paths;
  for (std::string_view name : names) {
    paths.push_back(JoinPath(path_, name));
    if (FileExists(paths.back())) continue;
    return NotFound(
        fmt::format("{}: file {} of weight_map is missing from the directory", index_path, QuoteName(name)));
  }
  VX_TRY(OpenFiles(paths));
  if (Status status = CheckIndex(index); !status.ok()) return std::move(status).Prefix(index_path);
  return {};
}

Status CheckpointFiles::OpenFiles(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    VX_ASSIGN(SafetensorsFile file, SafetensorsFile::Open(path));
    files_.push_back(std::move(file));
    total_bytes_ += files_.back().data_bytes();
    for (const TensorInfo& tensor : files_.back().tensors()) {
      const auto [it, inserted] = index_.try_emplace(tensor.name, Place{&tensor, files_.size() - 1});
      if (inserted) continue;
      return DataLoss(
          fmt::format("{}: tensor {} is also in {}", path, QuoteName(tensor.name), files_[it->second.file].path()));
    }
  }
  if (const std::optional<RankNumber> number = ParseRankFileName(FileNameOf(paths[0])); number && paths.size() == 1) {
    rank_ = number->rank;
    world_ = number->world;
  }
  return {};
}

Status CheckpointFiles::CheckIndex(const CheckpointIndex& index) const {
  std::set<std::string_view> listed;
  for (const auto& [tensor, file] : index.weight_map) {
    const SafetensorsFile* holder = FileOf(tensor);
    if (holder == nullptr) {
      return DataLoss(
          fmt::format("weight_map places tensor {} in {}, which lacks it", QuoteName(tensor), QuoteName(file)));
    }
    if (FileNameOf(holder->path()) != file) {
      return DataLoss(fmt::format("weight_map places tensor {} in {}, it is in {}", QuoteName(tensor), QuoteName(file),
                                  QuoteName(FileNameOf(holder->path()))));
    }
    listed.insert(tensor);
  }
  for (const auto& [tensor, place] : index_) {
    if (listed.contains(tensor)) continue;
    return DataLoss(fmt::format("weight_map lacks tensor {} of {}", QuoteName(tensor),
                                QuoteName(FileNameOf(files_[place.file].path()))));
  }
  if (index.total_size && *index.total_size != total_bytes_) {
    return DataLoss(
        fmt::format("metadata.total_size is {}, the tensors take {} bytes", *index.total_size, total_bytes_));
  }
  return {};
}

const TensorInfo* CheckpointFiles::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : it->second.tensor;
}

const SafetensorsFile* CheckpointFiles::FileOf(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() || gguf_ ? nullptr : &files_[it->second.file];
}

std::vector<std::string_view> CheckpointFiles::names() const {
  std::vector<std::string_view> names;
  names.reserve(index_.size());
  if (gguf_) {
    for (const TensorInfo& tensor : gguf_->tensors()) names.push_back(tensor.name);
  }
  for (const SafetensorsFile& file : files_) {
    for (const TensorInfo& tensor : file.tensors()) names.push_back(tensor.name);
  }
  return names;
}

}  // namespace vexil
