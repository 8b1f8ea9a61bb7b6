#include "io/safetensors_writer.h"

#include <fmt/format.h>

#include <utility>

#include "base/json.h"
#include "io/quote.h"
#include "io/safetensors_header.h"

namespace vexil {
namespace {

Result<Json> DescribeEntry(const TensorDeclaration& tensor, int64_t begin, int64_t end) {
  if (tensor.dtype == DType::kE2M1x2) {
    if (tensor.dims.rank == 0) return InvalidArgument("dtype F4 needs a last dimension to pack, the shape is []");
    int64_t codes = 0;
    if (__builtin_mul_overflow(tensor.dims[-1], 2, &codes)) {
      return InvalidArgument(fmt::format("{} has more than 2^63 - 1 codes", DescribeTensor(tensor.dtype, tensor.dims)));
    }
  }
  WrittenType type = WrittenTypeOf(tensor.dtype, tensor.dims);
  Json::Array shape(type.shape.d.begin(), type.shape.d.begin() + type.shape.rank);
  return Json(Json::Object{
      {"dtype", std::move(type.dtype)}, {"shape", std::move(shape)}, {"data_offsets", Json::Array{begin, end}}});
}

// Adds one tensor whose bytes begin at `offset`, which moves to their end.
Status AppendEntry(const TensorDeclaration& tensor, int64_t& offset, Json::Object& root) {
  VX_ASSIGN(const int64_t bytes, DenseBytes(tensor.dtype, tensor.dims));
  int64_t end = 0;
  if (__builtin_add_overflow(offset, bytes, &end)) {
    return InvalidArgument("the tensors together take more than 2^63 - 1 bytes");
  }
  VX_ASSIGN(Json entry, DescribeEntry(tensor, offset, end));
  root.emplace_back(tensor.name, std::move(entry));
  offset = end;
  return {};
}

// The header with its padding. `tensors` decide the order of names and bytes.
Result<std::string> MakeHeader(std::span<const TensorDeclaration> tensors, const SafetensorsMetadata& metadata) {
  Json::Object root;
  if (!metadata.empty()) root.emplace_back("__metadata__", Json::Object(metadata.begin(), metadata.end()));
  int64_t data_bytes = 0;
  for (const TensorDeclaration& tensor : tensors) {
    if (tensor.name == "__metadata__") return InvalidArgument("__metadata__ cannot be the name of a tensor");
    if (Status status = AppendEntry(tensor, data_bytes, root); !status.ok()) {
      return std::move(status).Prefix("tensor " + QuoteName(tensor.name));
    }
  }
  std::string text = Json(std::move(root)).ToText();
  // Spaces are the padding that the format provides for. Tensors of whole cache lines, as weights are, then begin on a
  // cache line, where kernels read them fastest.
  constexpr size_t kAlignment = 64;
  text.append((kAlignment - (size_t{kSafetensorsPrefixBytes} + text.size()) % kAlignment) % kAlignment, ' ');
  if (text.size() > size_t{kMaxSafetensorsHeaderBytes}) {
    return InvalidArgument(fmt::format("header takes {} bytes, a safetensors header has at most {} bytes", text.size(),
                                       kMaxSafetensorsHeaderBytes));
  }
  // The reader's own check finds what is left: repeated names and text that is not UTF-8.
  if (Result<SafetensorsHeader> parsed = ParseSafetensorsHeader(text, 0, data_bytes); !parsed.ok()) {
    return InvalidArgument(std::string(parsed.status().message()));
  }
  return text;
}

std::string EncodeLength(uint64_t length) {
  std::string bytes(kSafetensorsPrefixBytes, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(length >> (8 * i));
  return bytes;
}

}  // namespace

WrittenType WrittenTypeOf(DType dtype, const Dims& dims) {
  if (dtype != DType::kE2M1x2) return {NameOf(dtype), dims};
  Dims codes = dims;
  if (codes.rank > 0) codes.d[codes.rank - 1] *= 2;
  return {"F4", codes};
}

Result<std::string> SafetensorsHead(std::span<const TensorDeclaration> tensors, const SafetensorsMetadata& metadata) {
  VX_ASSIGN(const std::string header, MakeHeader(tensors, metadata));
  return EncodeLength(header.size()) + header;
}

SafetensorsWriter::SafetensorsWriter(AtomicFile file, std::vector<Pending> pending)
    : file_(std::move(file)), pending_(std::move(pending)) {}

Result<SafetensorsWriter> SafetensorsWriter::Create(const std::string& path, std::vector<TensorDeclaration> tensors,
                                                    const SafetensorsMetadata& metadata) {
  Result<std::string> head = SafetensorsHead(tensors, metadata);
  if (!head.ok()) return std::move(head).TakeError().Prefix(path);
  VX_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  VX_TRY(file.Write(*head));
  std::vector<Pending> pending;
  pending.reserve(tensors.size());
  for (TensorDeclaration& tensor : tensors) {
    VX_ASSIGN(const int64_t bytes, DenseBytes(tensor.dtype, tensor.dims));
    pending.push_back({std::move(tensor.name), bytes});
  }
  return SafetensorsWriter(std::move(file), std::move(pending));
}

Status SafetensorsWriter::Write(std::string_view name, std::span<const uint8_t> bytes) {
  const auto complete = [this] { return current_ < pending_.size() && pending_[current_].bytes_left == 0; };
  while (complete() && pending_[current_].name != name) ++current_;
  if (current_ == pending_.size() || pending_[current_].name != name) {
    const std::string expected = current_ == pending_.size() ? "no more tensors" : QuoteName(pending_[current_].name);
    return InvalidArgument(
        fmt::format("{}: bytes for tensor {}, expected {}", file_.path(), QuoteName(name), expected));
  }
  Pending& tensor = pending_[current_];
  if (bytes.size() > static_cast<uint64_t>(tensor.bytes_left)) {
    return InvalidArgument(fmt::format("{}: {} bytes for tensor {}, expected {}", file_.path(), bytes.size(),
                                       QuoteName(name), tensor.bytes_left));
  }
  VX_TRY(file_.Write(bytes));
  tensor.bytes_left -= static_cast<int64_t>(bytes.size());
  return {};
}

Status SafetensorsWriter::Finish() {
  for (; current_ < pending_.size(); ++current_) {
    const Pending& tensor = pending_[current_];
    if (tensor.bytes_left == 0) continue;
    return InvalidArgument(
        fmt::format("{}: tensor {} lacks {} bytes", file_.path(), QuoteName(tensor.name), tensor.bytes_left));
  }
  return file_.Commit();
}

}  // namespace vexil
