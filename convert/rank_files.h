// All rank files of one model-parallel checkpoint, and the tensors that they make up together.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "convert/job.h"
#include "convert/shard_rules.h"
#include "convert/source.h"

namespace vexil::convert {

// Immutable after Open and safe to share. Addresses of tensors stay.
class RankFiles {
 public:
  // kNotFound when a rank is missing; kInvalidArgument when there are none or several sets.
  static Result<std::unique_ptr<const RankFiles>> Open(const std::string& path);

  int64_t ranks() const { return int64_t(files_.size()); }
  int64_t largest_file_bytes() const;
  // Published names, each once, in the order of the lowest rank that holds it.
  std::span<const std::string> names() const { return names_; }
  const SourceTensor* Find(std::string_view name, int64_t rank) const;

  // The whole tensor under `rules`: slices joined, copies compared. Packed E2M1 becomes I8, as published.
  // kDataLoss when the parts do not fit together.
  Result<SafetensorsTensor> Joined(const ShardRules& rules, const std::string& name) const;

  const Json& identity() const { return identity_; }

 private:
  struct Rank {
    std::vector<SourceTensor> tensors;
    std::unordered_map<std::string_view, size_t> index;
  };
  RankFiles() = default;
  Result<std::vector<const SourceTensor*>> Slices(const ShardRules& rules, const std::string& name) const;
  int64_t SlicesPerEntry(const std::string& name, Axis axis) const;

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::vector<InputFile> inputs_;
  std::vector<Rank> tensors_;
  std::vector<std::string> names_;
  Json identity_;
};

}  // namespace vexil::convert
