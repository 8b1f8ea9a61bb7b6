#include "convert/job.h"

#include <fmt/format.h>

#include <cstdlib>
#include <new>
#include <utility>

#include "io/safetensors_header.h"

namespace vexil::convert {

void Scratch::Free::operator()(uint8_t* p) const { std::free(p); }

uint8_t* Scratch::Bytes(int slot, int64_t bytes) {
  if (sizes_[slot] < bytes) {
    constexpr int64_t kAlignment = 4096;
    sizes_[slot] = 0;
    buffers_[slot].reset();
    const int64_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    buffers_[slot].reset(static_cast<uint8_t*>(std::aligned_alloc(kAlignment, size_t(size))));
    if (buffers_[slot] == nullptr) throw std::bad_alloc();
    sizes_[slot] = size;
  }
  return buffers_[slot].get();
}

Result<OutputFile> SafetensorsOutput(std::string name, std::vector<SafetensorsTensor> tensors,
                                     const SafetensorsMetadata& metadata) {
  std::vector<TensorDeclaration> declarations;
  declarations.reserve(tensors.size());
  for (const SafetensorsTensor& t : tensors) declarations.push_back(t.declaration);
  Result<std::string> head = SafetensorsHead(declarations, metadata);
  if (!head.ok()) return std::move(head).TakeError().Prefix(name);
  OutputFile file;
  file.name = std::move(name);
  file.head = *std::move(head);
  file.bytes = int64_t(file.head.size());
  for (SafetensorsTensor& t : tensors) {
    VX_ASSIGN(const int64_t bytes, DenseBytes(t.declaration.dtype, t.declaration.dims));
    WrittenType type = WrittenTypeOf(t.declaration.dtype, t.declaration.dims);
    file.tensors.push_back({.name = std::move(t.declaration.name),
                            .dtype = std::move(type.dtype),
                            .shape = type.shape,
                            .begin = file.bytes,
                            .bytes = bytes,
                            .granule = t.granule,
                            .open = std::move(t.open)});
    file.bytes += bytes;
  }
  return file;
}

SmallFile FixedFile(std::string name, std::string text) {
  return {std::move(name),
          [text = std::move(text)](std::span<const FileRecord>) -> Result<std::string> { return text; }};
}

int64_t DataBytes(const Job& job) {
  int64_t bytes = 0;
  for (const OutputFile& file : job.files) bytes += file.bytes;
  return bytes;
}

}  // namespace vexil::convert
