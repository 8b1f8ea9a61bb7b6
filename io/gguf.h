// Reading GGUF files, the format of llama.cpp: metadata, a table of tensors, then their bytes, each tensor at a
// multiple of the file's alignment. Versions 2 and 3, little-endian (docs/checkpoints.md, "GGUF").
//
// As with safetensors, all of it is validated before the first view exists: counts, lengths, types and offsets against
// the size of the file, keys and names that repeat, and that the tensors follow each other in order with nothing but
// padding between and behind them, as ggml demands. Memory stays proportional to the file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "io/gguf_metadata.h"
#include "io/safetensors.h"

namespace vexil {

// The tensor types that are read and written: name, code in the file, the dtype that they are here. A type is one line
// here and one in VX_DTYPES.
#define VX_GGUF_TENSOR_TYPES(X) \
  X("F32", 0, kF32)             \
  X("F16", 1, kF16)             \
  X("Q8_0", 8, kQ8_0)           \
  X("I32", 26, kI32)            \
  X("BF16", 30, kBF16)          \
  X("MXFP4", 39, kMXFP4)

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr uint32_t kGgufVersion = 3;  // of files that are written
inline constexpr uint32_t kGgufDefaultAlignment = 32;
inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";
inline constexpr int kMaxGgufRank = 4;

// Whether a path names a GGUF file: it ends in ".gguf".
inline bool IsGgufPath(std::string_view path) { return path.ends_with(".gguf"); }

// The code of a dtype in the file. kUnsupported for one that the format or this program lacks there.
Result<uint32_t> GgufCodeOf(DType dtype);

// One open file. Views, pointers and metadata live as long as this object; moving it keeps them valid. All methods are
// const and safe to call from several threads.
class GgufFile {
 public:
  // Maps the file: opening costs the header, not the data (see SafetensorsFile::Open for what mapping means).
  // Errors name the file, the entry, what was found and what was expected: kNotFound (no file), kDataLoss (the file
  // breaks the format), kUnsupported (version 1, big-endian, a tensor type that this program cannot read).
  static Result<GgufFile> Open(const std::string& path);

  // The same for bytes in memory, which must start at a multiple of 8 and outlive the result. `name` stands for the
  // path in messages.
  static Result<GgufFile> Parse(std::span<const uint8_t> bytes, std::string name);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }

  // In the file's order.
  std::span<const GgufEntry> metadata() const { return metadata_; }
  // Null when there is no such key.
  const GgufValue* FindValue(std::string_view key) const;

  // In the order of their bytes, under the names of the file. Dims are slowest first, as everywhere here, which is the
  // reverse of the file's order, and count storage elements: Q8_0 and MXFP4 [n, k] are [n, k/32].
  std::span<const TensorInfo> tensors() const { return tensors_; }
  const TensorInfo* Find(std::string_view name) const;
  // Of all tensors together, without padding.
  int64_t data_bytes() const { return data_bytes_; }

 private:
  GgufFile() = default;
  Status ParseAll(std::span<const uint8_t> bytes);
  Status ParseMetadata(GgufMetadataReader& reader, uint64_t count);
  Status ParseTensors(GgufMetadataReader& reader, uint64_t count);
  Result<uint64_t> Alignment() const;
  Status PlaceTensors(std::span<const uint8_t> bytes, size_t header_bytes);

  std::string path_;
  MappedFile map_;
  uint32_t version_ = 0;
  std::vector<GgufEntry> metadata_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> keys_;   // point into the file's bytes
  std::unordered_map<std::string_view, size_t> names_;  // point into the file's bytes
  int64_t data_bytes_ = 0;
};

}  // namespace vexil
