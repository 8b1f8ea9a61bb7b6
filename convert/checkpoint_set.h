// All files of a checkpoint, opened one by one: what is wrong with some does not keep the others from being looked at.
// (io/checkpoint_files.h opens a checkpoint for use and stops at the first fault.)
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "convert/problems.h"
#include "io/checkpoint_files.h"
#include "io/safetensors.h"

namespace vexil::convert {

struct CheckpointPart {
  std::string name;  // in the directory
  SafetensorsFile file;
  RankNumber rank;  // 0 of 1 for all but rank files
};

// The tensors that one process would load: the whole checkpoint, or one rank's file.
struct TensorGroup {
  struct Entry {
    const CheckpointPart* part;
    const TensorInfo* info;
  };
  RankNumber rank;
  std::string path;                                // for messages about tensors that are not there
  std::unordered_map<std::string, Entry> tensors;  // by published name

  const Entry* Find(const std::string& canonical) const {
    const auto it = tensors.find(canonical);
    return it == tensors.end() ? nullptr : &it->second;
  }
};

class CheckpointSet {
 public:
  // A directory, or one safetensors file. Problems with single files, with the index and with parts that are missing go
  // to `problems`. kNotFound: there is nothing at `path`, or a directory without a single safetensors file.
  static Result<CheckpointSet> Open(const std::string& path, ProblemList& problems);

  const std::string& path() const { return path_; }
  // Where index, configuration and manifest are.
  const std::string& directory() const { return directory_; }
  bool is_directory() const { return path_ == directory_; }
  const std::vector<CheckpointPart>& parts() const { return parts_; }
  // Names in the directory that were to be opened, also those that could not be.
  const std::vector<std::string>& file_names() const { return file_names_; }

  // Compares the index, where there is one, with the tensors of the files.
  void CheckIndex(ProblemList& problems) const;
  // One group per rank file, or one of all parts. Tensors stored twice go to `problems`.
  std::vector<TensorGroup> Groups(ProblemList& problems) const;

 private:
  Status ChooseFiles(ProblemList& problems);

  std::string path_, directory_;
  std::vector<std::string> file_names_;
  std::vector<CheckpointPart> parts_;
};

}  // namespace vexil::convert
