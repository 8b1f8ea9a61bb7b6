#include "io/gguf_writer.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "io/quote.h"
#include "io/safetensors_header.h"

namespace vexil {
namespace {

constexpr int64_t kAlignment = kGgufDefaultAlignment;

int64_t PaddingBehind(int64_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

// Adds one tensor whose bytes begin at `offset` of the data, which moves to where the next one begins.
Status AppendTensor(const TensorDeclaration& tensor, int64_t& offset, std::string& header) {
  const Dims& dims = tensor.dims;
  if (dims.rank < 1 || dims.rank > kMaxGgufRank) {
    return InvalidArgument(fmt::format("found {} dimensions, expected 1 to {}", dims.rank, kMaxGgufRank));
  }
  VX_ASSIGN(const uint32_t code, GgufCodeOf(tensor.dtype));
  VX_ASSIGN(const int64_t bytes, DenseBytes(tensor.dtype, dims));
  if (bytes == 0) return InvalidArgument("found no elements, expected at least one");
  int64_t end = 0;
  if (__builtin_add_overflow(offset, bytes, &end) || end > INT64_MAX - kAlignment) {
    return InvalidArgument("the tensors together take more than 2^63 - 1 bytes");
  }
  AppendGguf(header, std::string_view(tensor.name));
  AppendGguf(header, static_cast<uint32_t>(dims.rank));
  for (int i = dims.rank; i-- > 0;) {
    const int64_t elements = i == dims.rank - 1 ? dims[i] * ElementsOf(tensor.dtype) : dims[i];
    AppendGguf(header, static_cast<uint64_t>(elements));
  }
  AppendGguf(header, code);
  AppendGguf(header, static_cast<uint64_t>(offset));
  offset = end + PaddingBehind(end);
  return {};
}

Status CheckName(std::string_view name, std::set<std::string_view>& seen) {
  std::string text;
  AppendGguf(text, name);
  GgufMetadataReader reader({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  Result<std::string_view> read = reader.Name("a name");
  if (!read.ok()) return InvalidArgument(fmt::format("{}: {}", QuoteName(name), read.status().message()));
  if (!seen.insert(name).second) return InvalidArgument(fmt::format("{} appears twice", QuoteName(name)));
  return {};
}

}  // namespace

Result<GgufLayout> LayOutGguf(std::span<const TensorDeclaration> tensors, const GgufMetadata& metadata) {
  GgufLayout layout;
  std::string& header = layout.header;
  header = kGgufMagic;
  AppendGguf(header, kGgufVersion);
  AppendGguf(header, uint64_t{tensors.size()});
  AppendGguf(header, uint64_t{metadata.size()});
  std::set<std::string_view> keys, names;
  for (const auto& [key, value] : metadata) {
    VX_TRY(CheckName(key, keys));
    if (key == kGgufAlignmentKey) return InvalidArgument(fmt::format("{} is the writer's to choose", key));
    AppendGgufEntry(header, key, value);
  }
  int64_t offset = 0;
  for (const TensorDeclaration& tensor : tensors) {
    VX_TRY(CheckName(tensor.name, names));
    layout.tensor_begin.push_back(offset);
    if (Status status = AppendTensor(tensor, offset, header); !status.ok()) {
      return std::move(status).Prefix("tensor " + QuoteName(tensor.name));
    }
  }
  header.append(static_cast<size_t>(PaddingBehind(static_cast<int64_t>(header.size()))), '\0');
  const int64_t data_begin = static_cast<int64_t>(header.size());
  for (int64_t& begin : layout.tensor_begin) begin += data_begin;
  if (__builtin_add_overflow(data_begin, offset, &layout.file_bytes)) {
    return InvalidArgument("the file would take more than 2^63 - 1 bytes");
  }
  return layout;
}

GgufWriter::GgufWriter(AtomicFile file, std::vector<Pending> pending)
    : file_(std::move(file)), pending_(std::move(pending)) {}

Result<GgufWriter> GgufWriter::Create(const std::string& path, std::span<const TensorDeclaration> tensors,
                                      const GgufMetadata& metadata) {
  Result<GgufLayout> layout = LayOutGguf(tensors, metadata);
  if (!layout.ok()) return std::move(layout).TakeError().Prefix(path);
  VX_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  VX_TRY(file.Write(layout->header));
  std::vector<Pending> pending;
  pending.reserve(tensors.size());
  for (const TensorDeclaration& tensor : tensors) {
    VX_ASSIGN(const int64_t bytes, DenseBytes(tensor.dtype, tensor.dims));
    pending.push_back({tensor.name, bytes, PaddingBehind(bytes)});
  }
  return GgufWriter(std::move(file), std::move(pending));
}

Status GgufWriter::Write(std::string_view name, std::span<const uint8_t> bytes) {
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
  return tensor.bytes_left == 0 ? CloseTensor() : Status();
}

Status GgufWriter::CloseTensor() {
  static constexpr char kZeros[kAlignment] = {};
  return file_.Write(std::string_view(kZeros, static_cast<size_t>(pending_[current_++].padding)));
}

Status GgufWriter::Finish() {
  if (current_ == pending_.size()) return file_.Commit();
  const Pending& tensor = pending_[current_];
  return InvalidArgument(
      fmt::format("{}: tensor {} lacks {} bytes", file_.path(), QuoteName(tensor.name), tensor.bytes_left));
}

}  // namespace vexil
