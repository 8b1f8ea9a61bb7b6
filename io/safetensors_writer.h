// Writing safetensors files of any size in one pass and constant memory.
//
//   VX_ASSIGN(SafetensorsWriter writer, SafetensorsWriter::Create(path, {{"a", DType::kF32, {2, 3}}}, {}));
//   VX_TRY(writer.Write("a", bytes));
//   VX_TRY(writer.Finish());
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "io/file.h"
#include "io/safetensors.h"

namespace vexil {

struct TensorDeclaration {
  std::string name;
  DType dtype = DType::kF32;
  Dims dims;  // storage elements; kE2M1x2 [n, k/2] is written as "F4" [n, k]
};

// All that stands in front of the tensors' bytes: the header's length and the header, padded to a multiple of 64. The
// bytes follow in the order of `tensors` without gaps. Errors: those of SafetensorsWriter::Create, without a path.
Result<std::string> SafetensorsHead(std::span<const TensorDeclaration> tensors, const SafetensorsMetadata& metadata);

// A tensor as a header describes it: element type and shape, where kE2M1x2 [n, k/2] is "F4" [n, k].
struct WrittenType {
  std::string dtype;
  Dims shape;
};
WrittenType WrittenTypeOf(DType dtype, const Dims& dims);

// The target appears when Finish() succeeds and is untouched otherwise (AtomicFile). For one thread at a time.
class SafetensorsWriter {
 public:
  // Declares every tensor, in the order in which their bytes will come, and writes the header. The data starts at a
  // multiple of 64; the format has no padding between tensors, so declare wide element types before narrow ones to
  // keep every tensor aligned.
  // kInvalidArgument: a declaration that SafetensorsFile would refuse (repeated name, bad dims, a name that is not
  // UTF-8, a header beyond the limit), or a scalar of kE2M1x2.
  static Result<SafetensorsWriter> Create(const std::string& path, std::vector<TensorDeclaration> tensors,
                                          const SafetensorsMetadata& metadata);

  // Appends bytes to the tensor `name`, in as many pieces as the caller likes. Tensors come in declaration order, each
  // complete before the next (kInvalidArgument). Tensors without elements need no call.
  Status Write(std::string_view name, std::span<const uint8_t> bytes);

  // Puts the file in place; kInvalidArgument when a tensor lacks bytes.
  Status Finish();

 private:
  struct Pending {
    std::string name;
    int64_t bytes_left;
  };
  SafetensorsWriter(AtomicFile file, std::vector<Pending> pending);

  AtomicFile file_;
  std::vector<Pending> pending_;
  size_t current_ = 0;  // pending_[current_] receives the next bytes
};

}  // namespace vexil
