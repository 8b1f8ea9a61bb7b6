// The checkpoint that a conversion reads: its tensors under published names, each with its storage format and scale,
// its configuration, and the files beside the weights.
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
#include "io/checkpoint_files.h"
#include "io/file.h"
#include "model/config.h"

namespace vexil::convert {

// How a tensor's values are stored (spec: quantization, 3 and 8).
enum class Storage : uint8_t {
  kPlain,  // as its dtype says
  kE4M3,   // with E8M0 scales per 128 x 128 tile
  kE2M1,   // pairs, with E8M0 scales per 32 columns of a row
  kInt8,   // with a float scale per row
};

struct SourceTensor {
  std::string name;  // published name
  const TensorInfo* info = nullptr;
  const InputFile* file = nullptr;
  Storage storage = Storage::kPlain;
  const SourceTensor* scale = nullptr;  // of a quantised matrix
  bool is_scale = false;                // of another tensor

  // Of the logical matrix. Rank 2 only.
  int64_t rows() const { return info->dims[0]; }
  int64_t cols() const { return storage == Storage::kE2M1 ? 2 * info->dims[1] : info->dims[1]; }
  bool is_matrix() const { return info->dims.rank == 2; }

  Status ReadAt(int64_t offset, std::span<uint8_t> out) const { return file->ReadAt(info->begin + offset, out); }
  Result<std::vector<uint8_t>> ReadAll() const;
  // "FILE: tensor "NAME": ", for messages.
  std::string Where() const;
};

// Immutable after Open and safe to share. Addresses of tensors stay.
class Source {
 public:
  // A directory or file as CheckpointFiles::Open takes it, not split into ranks. `config_path` empty: config.json
  // beside the weights. The tensors are checked against the configuration, all of them and their scales: a missing,
  // surplus, misshapen or mistyped one is an error that names it.
  static Result<std::unique_ptr<const Source>> Open(const std::string& path, const std::string& config_path);

  const std::string& path() const { return path_; }
  std::span<const SourceTensor> tensors() const { return tensors_; }  // file by file, in the order of their bytes
  const SourceTensor* Find(std::string_view name) const;
  const CheckpointFiles& files() const { return files_; }
  const ModelConfig& model() const { return model_; }
  const std::string& folder() const { return folder_; }
  const Json& config() const { return config_; }
  const std::string& config_text() const { return config_text_; }  // as it stands in the file

  // Sizes, times and header hashes of the files, for a job's identity.
  const Json& identity() const { return identity_; }

 private:
  Source() = default;
  Status OpenInputs();
  Status Classify();
  Status ClassifyMatrix(SourceTensor& tensor);

  std::string path_, folder_, config_text_;
  CheckpointFiles files_;
  std::vector<InputFile> inputs_;
  std::vector<SourceTensor> tensors_;
  std::unordered_map<std::string_view, size_t> index_;
  ModelConfig model_;
  Json config_, identity_;
};

// Size, time and header hash of a file: a change of any of them makes it another input.
Result<Json> DescribeInput(const InputFile& file, const SafetensorsFile& tensors);

struct SideFile {
  std::string name;  // relative to the checkpoint's folder
  std::string text;
};
// The small files that belong to a checkpoint: tokenizer, generation configuration, licence, folders encoding/ and
// inference/. Not config.json, indexes, files of this program, hidden files or weights.
Result<std::vector<SideFile>> ReadSideFiles(const std::string& folder);

inline constexpr int64_t kTile = 128;      // an E4M3 scale covers kTile x kTile
inline constexpr int64_t kE2M1Group = 32;  // an E2M1 scale covers so many columns of a row
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace vexil::convert
