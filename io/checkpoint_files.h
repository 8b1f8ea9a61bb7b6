// The files of one checkpoint as one set of tensors: safetensors, or one GGUF file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace vexil {

struct CheckpointIndex;

// Which share of a model a file holds.
struct RankNumber {
  int rank = 0;
  int world = 1;
  friend bool operator==(const RankNumber&, const RankNumber&) = default;
};
// Of files named model{rank}-mp{world}.safetensors (spec: checkpoint, section 4.2); nothing for every other name.
std::optional<RankNumber> ParseRankFileName(std::string_view name);

// Tensor pointers and views live as long as this object; moving it keeps them valid. All methods are const and safe to
// call from several threads.
class CheckpointFiles {
 public:
  CheckpointFiles() = default;  // without tensors

  // A file path opens that file, as GGUF if it ends in .gguf. In a directory, the first of these decides
  // (spec: checkpoint, sections 1 and 4):
  //   1. model.safetensors.index.json: the files it names. It must agree with them in every tensor and, when it gives
  //      metadata.total_size, in the bytes of all tensors.
  //   2. exactly one of
  //        model.safetensors
  //        model-00001-of-0000N.safetensors .. model-0000N-of-0000N.safetensors, all of them
  //        model0-mpN.safetensors .. model{N-1}-mpN.safetensors, all of them; rank 0's file is opened
  //   3. the only file whose name ends in .safetensors.
  // Several candidates on the same line are an error; name the file instead of the directory then.
  //
  // Errors: those of SafetensorsFile::Open and GgufFile::Open; kNotFound (nothing to open, or a part is missing, by
  // name); kInvalidArgument (several candidates); kDataLoss (index and files disagree, or two files hold the same
  // tensor).
  static Result<CheckpointFiles> Open(const std::string& path);

  // As given to Open.
  const std::string& path() const { return path_; }

  // The safetensors files, sorted by name; none when gguf().
  std::span<const SafetensorsFile> files() const { return files_; }
  // Null unless the checkpoint is a GGUF file. Its tensors have that file's names here.
  const GgufFile* gguf() const { return gguf_.get(); }

  // Null when there is none of that name.
  const TensorInfo* Find(std::string_view name) const;
  // Null also when gguf().
  const SafetensorsFile* FileOf(std::string_view name) const;
  // File by file, in the order of their bytes.
  std::vector<std::string_view> names() const;
  size_t tensor_count() const { return index_.size(); }
  // Of all tensors together, without headers.
  int64_t total_bytes() const { return total_bytes_; }

  // Files named model{rank}-mp{world}.safetensors hold one rank's share of a model split `world` ways
  // (spec: checkpoint, section 4.2). 0 and 1 for every other name.
  int rank() const { return rank_; }
  int world() const { return world_; }

 private:
  struct Place {
    const TensorInfo* tensor;
    size_t file;  // index into files_
  };

  Status OpenDirectory();
  Status OpenIndexed();
  Status OpenFiles(const std::vector<std::string>& paths);
  Status OpenGguf();
  Status CheckIndex(const CheckpointIndex& index) const;

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::unique_ptr<const GgufFile> gguf_;
  std::unordered_map<std::string_view, Place> index_;  // keys point into the files' tensors
  int64_t total_bytes_ = 0;
  int rank_ = 0;
  int world_ = 1;
};

}  // namespace vexil
