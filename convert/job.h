// What a conversion writes, as plain data: a list of files, each a list of tensors with the code that makes their
// bytes. The runner (convert/runner.h) streams any such list; a mode of `vexil convert` only has to make one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "base/tensor.h"
#include "io/manifest.h"
#include "io/safetensors_writer.h"

namespace vexil::convert {

// Buffers of one worker, kept from tensor to tensor.
class Scratch {
 public:
  static constexpr int kSlots = 4;
  // At least `bytes` bytes, aligned for any SIMD access. Invalidates the slot's previous buffer; contents undefined.
  uint8_t* Bytes(int slot, int64_t bytes);
  float* Floats(int slot, int64_t count) {
    return reinterpret_cast<float*>(Bytes(slot, count * int64_t(sizeof(float))));
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const;
  };
  std::unique_ptr<uint8_t, Free> buffers_[kSlots];
  int64_t sizes_[kSlots] = {};
};

// Makes the bytes of one output tensor, front to back. One object serves one pass; several objects of the same tensor
// or of others may run at once on different threads.
class TensorStream {
 public:
  virtual ~TensorStream() = default;
  // Fills `out` with the bytes from `begin` on. Pieces follow each other without gaps; each begins at a multiple of the
  // tensor's granule, and all but the last have a multiple of it.
  virtual Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) = 0;
  // After the last piece: what the job wants to know about this tensor (errors, exactness). Kept over interruptions.
  virtual Json Notes() const { return {}; }
};

struct OutputTensor {
  std::string name;
  std::string dtype;  // as the file's header says it
  Dims shape;         // likewise
  int64_t begin = 0;  // of the tensor's bytes in the file
  int64_t bytes = 0;
  int64_t granule = 1;  // bytes; the least that the stream can make
  std::function<std::unique_ptr<TensorStream>()> open;
};

struct OutputFile {
  std::string name;
  std::string head;                   // the bytes at offset 0
  std::vector<OutputTensor> tensors;  // at least one; gaps between them are zeros
  int64_t bytes = 0;                  // of the whole file
};

// A tensor of a safetensors file.
struct SafetensorsTensor {
  TensorDeclaration declaration;
  int64_t granule = 1;
  std::function<std::unique_ptr<TensorStream>()> open;
};

// Lays the tensors out in the order given.
Result<OutputFile> SafetensorsOutput(std::string name, std::vector<SafetensorsTensor> tensors,
                                     const SafetensorsMetadata& metadata);

// What is known of a finished file.
struct FileRecord {
  ManifestFile manifest;
  std::vector<Json> notes;  // per tensor
  friend bool operator==(const FileRecord&, const FileRecord&) = default;
};

// A small file that is written when all data files are there. `text` gets the records of all of them, in plan order.
struct SmallFile {
  std::string name;  // may lie in a folder: "encoding/x.py"
  std::function<Result<std::string>(std::span<const FileRecord>)> text;
};

SmallFile FixedFile(std::string name, std::string text);

// What the user should know of the result, a line each.
using Remarks = std::vector<std::string>;

struct Job {
  std::string directory;  // made when it is not there
  Json identity;          // command, options, source: a rerun goes on only where all of it is the same
  std::vector<OutputFile> files;
  std::vector<SmallFile> small_files;  // in the order of writing; the manifest comes just before the last one
  std::function<Remarks(std::span<const FileRecord>)> remarks;  // may be empty
  std::shared_ptr<const void> source;                           // what the streams read, kept alive
};

int64_t DataBytes(const Job& job);

}  // namespace vexil::convert
