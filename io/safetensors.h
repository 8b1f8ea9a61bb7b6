// Reading safetensors files: 8 bytes of header length (little-endian), a JSON header
// {name: {"dtype", "shape", "data_offsets"}}, then the tensors' bytes (spec: checkpoint, section 1).
//
// The whole header is validated before the first view exists, so a view never reaches outside its file. Checked: the
// header length, the JSON, the keys and types of every entry, dtype, shape and byte count, and that the tensors cover
// the data section exactly, without overlap or hole, as the reference implementation of the format demands.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "io/file.h"

namespace vexil {

// Longest header accepted, the limit of the reference implementation.
inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;

// The free-form strings of "__metadata__".
using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  // Storage elements. A file's "F4" [n, k] is kE2M1x2 [n, k/2].
  Dims dims;
  // The tensor's bytes are [begin, end) of the file.
  int64_t begin = 0;
  int64_t end = 0;
  // Contiguous, on the CPU, aligned for its element type; never null, also for a tensor without elements.
  TensorView view;

  int64_t Bytes() const { return end - begin; }
};

// One open file. Views and TensorInfo pointers live as long as this object; moving it keeps them valid.
// All methods are const and safe to call from several threads.
class SafetensorsFile {
 public:
  // Maps the file: opening costs the header, not the data. What MappedFile says about files that change while mapped
  // holds here too. A tensor that does not start at a multiple of its element size, which the format allows, is
  // copied to aligned memory at once and costs its bytes.
  //
  // Errors name the file, the tensor, what was found and what was expected: kNotFound (no file), kDataLoss (the file
  // breaks the format), kUnsupported (an element type or rank this program has no use for), kResourceExhausted.
  static Result<SafetensorsFile> Open(const std::string& path);

  // The same for bytes in memory, which must outlive the result. `name` stands for the path in messages.
  static Result<SafetensorsFile> Parse(std::span<const uint8_t> bytes, std::string name);

  const std::string& path() const { return path_; }

  // In the order of their bytes.
  std::span<const TensorInfo> tensors() const { return tensors_; }
  std::vector<std::string_view> names() const;
  // Null when there is none of that name.
  const TensorInfo* Find(std::string_view name) const;
  const SafetensorsMetadata& metadata() const { return metadata_; }
  // Of all tensors together, without the header.
  int64_t data_bytes() const { return data_bytes_; }
  // Of the file with its header.
  int64_t file_bytes() const { return file_bytes_; }

  // A hint for `size` bytes from byte `offset` of a tensor of this file on; they may reach beyond it (MappedFile). No
  // effect after Parse().
  void WillNeed(const TensorInfo& tensor, int64_t offset, int64_t size) const;

 private:
  SafetensorsFile() = default;
  Status MakeViews(std::span<const uint8_t> bytes);

  std::string path_;
  MappedFile map_;
  std::vector<TensorInfo> tensors_;
  SafetensorsMetadata metadata_;
  std::unordered_map<std::string_view, size_t> index_;  // keys point into tensors_
  std::vector<std::unique_ptr<uint8_t[]>> copies_;      // of tensors that are not aligned in the file
  int64_t data_bytes_ = 0;
  int64_t file_bytes_ = 0;
};

}  // namespace vexil
