#include "io/safetensors.h"

#include <fmt/format.h>

#include <cstring>
#include <new>
#include <utility>

#include "io/quote.h"
#include "io/safetensors_header.h"

namespace vexil {

Result<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  VX_ASSIGN(MappedFile map, MappedFile::Open(path));
  VX_ASSIGN(SafetensorsFile file, Parse(map.bytes(), path));
  file.map_ = std::move(map);
  return file;
}

Result<SafetensorsFile> SafetensorsFile::Parse(std::span<const uint8_t> bytes, std::string name) {
  SafetensorsFile file;
  file.path_ = std::move(name);
  Result<std::string_view> text = FindSafetensorsHeader(bytes);
  if (!text.ok()) return std::move(text).TakeError().Prefix(file.path_);
  const int64_t data_begin = kSafetensorsPrefixBytes + static_cast<int64_t>(text->size());
  file.file_bytes_ = static_cast<int64_t>(bytes.size());
  file.data_bytes_ = static_cast<int64_t>(bytes.size()) - data_begin;
  Result<SafetensorsHeader> header = ParseSafetensorsHeader(*text, data_begin, file.data_bytes_);
  if (!header.ok()) return std::move(header).TakeError().Prefix(file.path_);
  file.tensors_ = std::move(header->tensors);
  file.metadata_ = std::move(header->metadata);
  if (Status status = file.MakeViews(bytes); !status.ok()) return std::move(status).Prefix(file.path_);
  return file;
}

Status SafetensorsFile::MakeViews(std::span<const uint8_t> bytes) {
  index_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    TensorInfo& tensor = tensors_[i];
    const uint8_t* data = bytes.data() + tensor.begin;
    if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(BytesOf(tensor.dtype)) != 0) {
      const size_t size = static_cast<size_t>(tensor.Bytes());
      std::unique_ptr<uint8_t[]> copy(new (std::nothrow) uint8_t[size]);
      if (copy == nullptr) {
        return ResourceExhausted(
            fmt::format("tensor {} is not aligned in the file and there is no memory for a copy of {} bytes",
                        QuoteName(tensor.name), size));
      }
      std::memcpy(copy.get(), data, size);
      data = copy.get();
      copies_.push_back(std::move(copy));
    }
    tensor.view = TensorView(data, tensor.dtype, tensor.dims);
    index_.emplace(tensor.name, i);
  }
  return {};
}

std::vector<std::string_view> SafetensorsFile::names() const {
  std::vector<std::string_view> names;
  names.reserve(tensors_.size());
  for (const TensorInfo& tensor : tensors_) names.push_back(tensor.name);
  return names;
}

const TensorInfo* SafetensorsFile::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

void SafetensorsFile::WillNeed(const TensorInfo& tensor, int64_t offset, int64_t size) const {
  map_.AdviseWillNeed(static_cast<size_t>(tensor.begin + offset), static_cast<size_t>(size));
}

}  // namespace vexil
