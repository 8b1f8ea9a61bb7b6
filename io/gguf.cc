#include "io/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "io/quote.h"
#include "io/safetensors_header.h"

namespace vexil {
namespace {

// The smallest possible entries: a key of one byte with a type and a byte; a name of one byte with rank, one dimension,
// type and offset.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Element types of views need no more than this; smaller alignments would need copies.
constexpr uint64_t kMinAlignment = 8;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 30;

// Types of ggml that have no counterpart here, so that a refusal can name them.
struct ForeignType {
  uint32_t code;
  const char* name;
};
constexpr ForeignType kForeignTypes[] = {
    {2, "Q4_0"},   {3, "Q4_1"},    {6, "Q5_0"},   {7, "Q5_1"},   {9, "Q8_1"},     {10, "Q2_K"},   {11, "Q3_K"},
    {12, "Q4_K"},  {13, "Q5_K"},   {14, "Q6_K"},  {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
    {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"}, {23, "IQ4_XS"},  {24, "I8"},     {25, "I16"},
    {27, "I64"},   {28, "F64"},    {29, "IQ1_M"}, {34, "TQ1_0"}, {35, "TQ2_0"},   {40, "NVFP4"},
};

std::string SupportedTypes() {
  std::string list;
#define X(name, code, dtype) list += list.empty() ? name : ", " name;
  VX_GGUF_TENSOR_TYPES(X)
#undef X
  return list;
}

Result<DType> DTypeOfCode(uint32_t code) {
  switch (code) {
#define X(name, c, dtype) \
  case c:                 \
    return DType::dtype;
    VX_GGUF_TENSOR_TYPES(X)
#undef X
    default:
      break;
  }
  const auto* foreign = std::ranges::find(kForeignTypes, code, &ForeignType::code);
  if (foreign == std::end(kForeignTypes)) return DataLoss(fmt::format("unknown tensor type {}", code));
  return Unsupported(fmt::format("found tensor type {}, expected one of {}", foreign->name, SupportedTypes()));
}

// The dimensions behind a tensor's name, turned to the order of this program, in storage elements of `dtype`.
Result<Dims> StorageDims(std::span<const uint64_t> fastest_first, DType dtype) {
  Dims dims;
  for (const uint64_t d : fastest_first) {
    if (d == 0 || !std::in_range<int64_t>(d)) {
      return DataLoss(fmt::format("found dimension {}, expected 1 to 2^63 - 1", d));
    }
  }
  for (size_t i = fastest_first.size(); i-- > 0;) dims.d[dims.rank++] = static_cast<int64_t>(fastest_first[i]);
  int64_t& last = dims.d[dims.rank - 1];
  if (last % ElementsOf(dtype) != 0) {
    return DataLoss(fmt::format("found {} elements in a row of {}, expected a multiple of {}", last, NameOf(dtype),
                                ElementsOf(dtype)));
  }
  last /= ElementsOf(dtype);
  return dims;
}

// One line of the table. `begin` of the result is still relative to the data.
Result<TensorInfo> ParseTensor(GgufMetadataReader& reader) {
  VX_ASSIGN(const uint32_t rank, reader.U32("the rank"));
  if (rank < 1 || rank > uint32_t{kMaxGgufRank}) {
    return DataLoss(fmt::format("found {} dimensions, expected 1 to {}", rank, kMaxGgufRank));
  }
  uint64_t sizes[kMaxGgufRank];
  for (uint32_t i = 0; i < rank; ++i) {
    VX_ASSIGN(sizes[i], reader.U64("a dimension"));
  }
  VX_ASSIGN(const uint32_t code, reader.U32("the tensor type"));
  VX_ASSIGN(const uint64_t offset, reader.U64("the offset"));
  TensorInfo tensor;
  VX_ASSIGN(tensor.dtype, DTypeOfCode(code));
  VX_ASSIGN(tensor.dims, StorageDims({sizes, rank}, tensor.dtype));
  Result<int64_t> bytes = DenseBytes(tensor.dtype, tensor.dims);
  if (!bytes.ok()) return DataLoss(std::string(bytes.status().message()));
  if (!std::in_range<int64_t>(offset)) return DataLoss(fmt::format("found offset {}, expected less than 2^63", offset));
  tensor.begin = static_cast<int64_t>(offset);
  if (__builtin_add_overflow(tensor.begin, *bytes, &tensor.end)) {
    return DataLoss(fmt::format("found offset {} and {} bytes, which end behind 2^63", offset, *bytes));
  }
  return tensor;
}

Status CheckVersion(uint32_t version) {
  if (version == 2 || version == 3) return {};
  const uint32_t swapped = __builtin_bswap32(version);
  if (swapped == 2 || swapped == 3) return Unsupported("found a big-endian file, expected little-endian");
  const std::string message = fmt::format("found GGUF version {}, expected 2 or 3", version);
  return version == 1 ? Unsupported(message) : DataLoss(message);
}

}  // namespace

Result<uint32_t> GgufCodeOf(DType dtype) {
  switch (dtype) {
#define X(name, code, type) \
  case DType::type:         \
    return uint32_t{code};
    VX_GGUF_TENSOR_TYPES(X)
#undef X
    default:
      return Unsupported(fmt::format("found dtype {}, expected one of {}", NameOf(dtype), SupportedTypes()));
  }
}

Result<GgufFile> GgufFile::Open(const std::string& path) {
  VX_ASSIGN(MappedFile map, MappedFile::Open(path));
  VX_ASSIGN(GgufFile file, Parse(map.bytes(), path));
  file.map_ = std::move(map);
  return file;
}

Result<GgufFile> GgufFile::Parse(std::span<const uint8_t> bytes, std::string name) {
  GgufFile file;
  file.path_ = std::move(name);
  if (Status status = file.ParseAll(bytes); !status.ok()) return std::move(status).Prefix(file.path_);
  return file;
}

Status GgufFile::ParseAll(std::span<const uint8_t> bytes) {
  VX_CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % kMinAlignment == 0, "the bytes of a GGUF file must be aligned");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kGgufMagic)) return DataLoss("does not begin with \"GGUF\"");
  GgufMetadataReader reader(bytes);
  VX_ASSIGN([[maybe_unused]] const uint32_t magic, reader.U32("the magic number"));
  VX_ASSIGN(version_, reader.U32("the version"));
  VX_TRY(CheckVersion(version_));
  VX_ASSIGN(const uint64_t tensor_count, reader.U64("the number of tensors"));
  VX_ASSIGN(const uint64_t entry_count, reader.U64("the number of metadata entries"));
  VX_TRY(ParseMetadata(reader, entry_count));
  VX_TRY(ParseTensors(reader, tensor_count));
  return PlaceTensors(bytes, reader.offset());
}

Status GgufFile::ParseMetadata(GgufMetadataReader& reader, uint64_t count) {
  if (count > reader.left() / kMinEntryBytes) {
    return DataLoss(fmt::format("found {} metadata entries, {} bytes cannot hold them", count, reader.left()));
  }
  for (uint64_t i = 0; i < count; ++i) {
    VX_ASSIGN(const GgufEntry entry, reader.Entry());
    if (!keys_.emplace(entry.key, metadata_.size()).second) {
      return DataLoss(fmt::format("metadata {} appears twice", QuoteName(entry.key)));
    }
    metadata_.push_back(entry);
  }
  return {};
}

Status GgufFile::ParseTensors(GgufMetadataReader& reader, uint64_t count) {
  if (count > reader.left() / kMinTensorBytes) {
    return DataLoss(fmt::format("found {} tensors, {} bytes cannot hold their table", count, reader.left()));
  }
  for (uint64_t i = 0; i < count; ++i) {
    VX_ASSIGN(const std::string_view name, reader.Name("a tensor's name"));
    if (!names_.emplace(name, tensors_.size()).second) {
      return DataLoss(fmt::format("tensor {} appears twice", QuoteName(name)));
    }
    Result<TensorInfo> tensor = ParseTensor(reader);
    if (!tensor.ok()) return std::move(tensor).TakeError().Prefix("tensor " + QuoteName(name));
    tensor->name = name;
    tensors_.push_back(*std::move(tensor));
  }
  return {};
}

Result<uint64_t> GgufFile::Alignment() const {
  const GgufValue* value = FindValue(kGgufAlignmentKey);
  if (value == nullptr) return uint64_t{kGgufDefaultAlignment};
  const std::optional<int64_t> v = value->Int();
  if (value->type() == GgufValueType::kU32 && v && std::has_single_bit(static_cast<uint64_t>(*v)) &&
      static_cast<uint64_t>(*v) >= kMinAlignment && static_cast<uint64_t>(*v) <= kMaxAlignment) {
    return static_cast<uint64_t>(*v);
  }
  return DataLoss(fmt::format("metadata {} is {}, expected a u32 power of two from {} to {}", kGgufAlignmentKey,
                              value->Describe(), kMinAlignment, kMaxAlignment));
}

Status GgufFile::PlaceTensors(std::span<const uint8_t> bytes, size_t header_bytes) {
  VX_ASSIGN(const uint64_t alignment, Alignment());
  const auto padded = [&](int64_t n) -> int64_t {
    return static_cast<int64_t>((static_cast<uint64_t>(n) + alignment - 1) / alignment * alignment);
  };
  const int64_t file_bytes = static_cast<int64_t>(bytes.size());
  // A header that ends the file needs no padding behind it.
  const int64_t data_begin = tensors_.empty() ? std::min(padded(static_cast<int64_t>(header_bytes)), file_bytes)
                                              : padded(static_cast<int64_t>(header_bytes));
  int64_t expected = 0;  // offset of the next tensor
  for (TensorInfo& tensor : tensors_) {
    const std::string where = "tensor " + QuoteName(tensor.name);
    if (tensor.begin != expected) {
      return DataLoss(fmt::format("{}: found offset {}, expected {}, where the tensor before it ends", where,
                                  tensor.begin, expected));
    }
    if (data_begin > file_bytes || tensor.end > file_bytes - data_begin) {
      return DataLoss(fmt::format("{}: ends at byte {} of the data, the file has {}", where, tensor.end,
                                  std::max<int64_t>(file_bytes - data_begin, 0)));
    }
    expected = padded(tensor.end);  // no overflow: the end is inside the file
    data_bytes_ += tensor.Bytes();
    tensor.begin += data_begin;
    tensor.end += data_begin;
    tensor.view = TensorView(bytes.data() + tensor.begin, tensor.dtype, tensor.dims);
  }
  if (file_bytes - data_begin > expected) {
    return DataLoss(fmt::format("{} bytes follow the last tensor", file_bytes - data_begin - expected));
  }
  return {};
}

const GgufValue* GgufFile::FindValue(std::string_view key) const {
  const auto it = keys_.find(key);
  return it == keys_.end() ? nullptr : &metadata_[it->second].value;
}

const TensorInfo* GgufFile::Find(std::string_view name) const {
  const auto it = names_.find(name);
  return it == names_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace vexil
