// vexil-manifest.json: a checksum of every tensor of a checkpoint, beside its files.
//
//   {"version": 1,
//    "files": {"model-00001-of-00002.safetensors": {
//      "bytes": 123,
//      "tensors": {"embed.weight": {"xxh3": "0123456789abcdef", "dtype": "BF16", "shape": [4, 8]}}}}}
//
// "bytes" is the size of the whole file; "dtype" and "shape" are those of the file's own header; "xxh3" is XXH3-64
// (seed 0) of the tensor's bytes as stored, most significant digit first. For accidents, not against attackers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"

namespace vexil {

inline constexpr std::string_view kManifestName = "vexil-manifest.json";

// Like the index's bound: more than ten times what the largest published checkpoint needs.
inline constexpr int64_t kMaxManifestBytes = 512 << 20;

// The checksum of a tensor, in pieces of any size or at once. For one thread at a time.
class TensorHash {
 public:
  TensorHash();
  void Update(std::span<const uint8_t> bytes);
  uint64_t Value() const;

  static uint64_t Of(std::span<const uint8_t> bytes);

 private:
  struct FreeState {
    void operator()(void* state) const;
  };
  std::unique_ptr<void, FreeState> state_;
};

struct ManifestTensor {
  std::string name;
  uint64_t xxh3 = 0;
  std::string dtype;
  Dims shape;

  friend bool operator==(const ManifestTensor&, const ManifestTensor&) = default;
};

struct ManifestFile {
  std::string name;   // a plain file name
  int64_t bytes = 0;  // of the whole file
  std::vector<ManifestTensor> tensors;

  friend bool operator==(const ManifestFile&, const ManifestFile&) = default;
};

struct Manifest {
  std::vector<ManifestFile> files;

  // Null when there is none of that name.
  const ManifestFile* Find(std::string_view file) const;
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

// Strict: unknown members, a version other than 1, repeated names and anything of another type or range are kDataLoss.
// `path` stands in front of messages.
Result<Manifest> ParseManifest(std::string_view text, std::string_view path);

// The text of the file. Files and tensors keep their order, so equal manifests give equal texts.
std::string FormatManifest(const Manifest& manifest);

// kNotFound when the directory has none.
Result<Manifest> ReadManifest(const std::string& directory);
// Whole or not at all (AtomicFile).
Status WriteManifest(const std::string& directory, const Manifest& manifest);

// 16 lower-case hexadecimal digits.
std::string HashText(uint64_t hash);

}  // namespace vexil
