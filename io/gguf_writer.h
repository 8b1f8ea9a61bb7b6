// Writing GGUF files of any size in one pass and constant memory.
//
//   VX_ASSIGN(GgufWriter writer, GgufWriter::Create(path, {{"a.weight", DType::kF32, {2, 3}}}, metadata));
//   VX_TRY(writer.Write("a.weight", bytes));
//   VX_TRY(writer.Finish());
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/safetensors_writer.h"

namespace vexil {

// Where everything stands in a file.
struct GgufLayout {
  std::string header;                 // all bytes in front of the data
  std::vector<int64_t> tensor_begin;  // offsets in the file; what lies between tensors and behind the last is zeros
  int64_t file_bytes = 0;
};

// Version 3 with the default alignment; metadata must not name another. Dims are slowest first and count storage
// elements, as in GgufFile. kInvalidArgument or kUnsupported: what GgufFile would refuse.
Result<GgufLayout> LayOutGguf(std::span<const TensorDeclaration> tensors, const GgufMetadata& metadata);

// The target appears when Finish() succeeds and is untouched otherwise (AtomicFile). For one thread at a time.
class GgufWriter {
 public:
  // Declares every tensor, in the order in which their bytes will come, and writes the header (LayOutGguf).
  static Result<GgufWriter> Create(const std::string& path, std::span<const TensorDeclaration> tensors,
                                   const GgufMetadata& metadata);

  // Appends bytes to the tensor `name`, in as many pieces as the caller likes. Tensors come in declaration order, each
  // complete before the next (kInvalidArgument).
  Status Write(std::string_view name, std::span<const uint8_t> bytes);

  // Puts the file in place; kInvalidArgument when a tensor lacks bytes.
  Status Finish();

 private:
  struct Pending {
    std::string name;
    int64_t bytes_left;
    int64_t padding;  // behind it
  };
  GgufWriter(AtomicFile file, std::vector<Pending> pending);
  Status CloseTensor();

  AtomicFile file_;
  std::vector<Pending> pending_;
  size_t current_ = 0;  // pending_[current_] receives the next bytes
};

}  // namespace vexil
