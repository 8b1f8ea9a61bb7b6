// Any bytes as a safetensors file: an error, or tensors whose bytes are all inside.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const vexil::Result<vexil::SafetensorsFile> file = vexil::SafetensorsFile::Parse({data, size}, "input");
  if (!file.ok()) return 0;
  int64_t total = 0;
  for (const vexil::TensorInfo& tensor : file->tensors()) {
    VX_CHECK(file->Find(tensor.name) == &tensor, "a tensor is not found by its name");
    VX_CHECK(tensor.view.Bytes() == tensor.Bytes(), "the view has another size than the range");
    const auto* bytes = static_cast<const uint8_t*>(tensor.view.raw());
    VX_CHECK(std::equal(bytes, bytes + tensor.Bytes(), data + tensor.begin), "the view shows other bytes");
    total += tensor.Bytes();
  }
  VX_CHECK(total == file->data_bytes(), "the tensors do not cover the data");
  return 0;
}
