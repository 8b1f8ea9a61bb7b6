#include "io/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "base/json.h"
#include "io/quote.h"

namespace vexil {
namespace {

// Element types of the format that have no counterpart in DType, so that a valid file is told from a damaged one.
constexpr std::string_view kForeignDTypes[] = {
    "BOOL", "U8",      "U16",         "U32",         "U64",     "I16",     "F64",
    "C64",  "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2",
};

// Two E2M1 codes per byte under the format's own name; its shapes count codes.
constexpr std::string_view kPackedE2M1 = "F4";

std::optional<DType> FindDType(std::string_view name) {
  if (name == kPackedE2M1) return DType::kE2M1x2;
#define X(e, text, bytes, type) \
  if (name == text && ElementsOf(DType::e) != kBlockElements) return DType::e;
  VX_DTYPES(X)
#undef X
  return std::nullopt;
}

// A count as the format writes it: digits only, so 1.0, 1e3 and -0 are refused.
std::optional<int64_t> ParseCount(const Json& value) {
  const Json::Number* number = value.number();
  if (number == nullptr) return std::nullopt;
  const char* end = number->text.data() + number->text.size();
  int64_t count = 0;
  const auto [stop, error] = std::from_chars(number->text.data(), end, count);
  if (error != std::errc() || stop != end || number->text.front() == '-') return std::nullopt;
  return count;
}

// A value from the header, short enough for a message.
std::string Show(const Json& value) {
  if (value.is_string()) return QuoteName(*value.string());
  if (value.is_number()) return value.number()->text.substr(0, 40);
  return value.is_null() ? "null" : fmt::format("a JSON {}", value.TypeName());
}

Result<SafetensorsMetadata> ParseMetadata(const Json& value) {
  const Json::Object* members = value.object();
  if (members == nullptr)
    return DataLoss(fmt::format("__metadata__ is {}, expected an object of strings", Show(value)));
  SafetensorsMetadata metadata;
  for (const auto& [key, text] : *members) {
    if (!text.is_string()) {
      return DataLoss(fmt::format("__metadata__ {} is {}, expected a string", QuoteName(key), Show(text)));
    }
    metadata.emplace(key, *text.string());
  }
  return metadata;
}

Result<DType> ParseDType(const Json& value) {
  if (!value.is_string()) return DataLoss(fmt::format("dtype is {}, expected a string", Show(value)));
  const std::string& name = *value.string();
  if (const std::optional<DType> dtype = FindDType(name)) return *dtype;
  if (std::ranges::find(kForeignDTypes, name) != std::end(kForeignDTypes)) {
    return Unsupported(fmt::format("dtype {} is not supported", name));
  }
  return DataLoss(fmt::format("unknown dtype {}", QuoteName(name)));
}

Result<Dims> ParseShape(const Json& value) {
  const Json::Array* list = value.array();
  if (list == nullptr) return DataLoss(fmt::format("shape is {}, expected an array of integers", Show(value)));
  if (list->size() > kMaxRank) {
    return Unsupported(fmt::format("shape has {} dimensions, at most {} are supported", list->size(), kMaxRank));
  }
  Dims dims;
  for (const Json& entry : *list) {
    const std::optional<int64_t> count = ParseCount(entry);
    if (!count) {
      return DataLoss(fmt::format("shape[{}] is {}, expected an integer from 0 to 2^63 - 1", dims.rank, Show(entry)));
    }
    dims.d[dims.rank++] = *count;
  }
  return dims;
}

// From codes to bytes along the last dimension.
Status PackShape(Dims& dims) {
  if (dims.rank == 0) return DataLoss("dtype F4 needs a last dimension to pack, the shape is []");
  int64_t& last = dims.d[dims.rank - 1];
  if (last % 2 != 0)
    return DataLoss(fmt::format("dtype F4 packs pairs, the last dimension is {}, an odd number", last));
  last /= 2;
  return {};
}

Result<std::pair<int64_t, int64_t>> ParseOffsets(const Json& value, int64_t data_bytes) {
  const Json::Array* list = value.array();
  if (list == nullptr || list->size() != 2) {
    const std::string found = list == nullptr ? Show(value) : fmt::format("an array of {}", list->size());
    return DataLoss(fmt::format("data_offsets is {}, expected [begin, end]", found));
  }
  int64_t ends[2];
  for (int i = 0; i < 2; ++i) {
    const std::optional<int64_t> count = ParseCount((*list)[i]);
    if (!count) {
      return DataLoss(
          fmt::format("data_offsets[{}] is {}, expected an integer from 0 to 2^63 - 1", i, Show((*list)[i])));
    }
    ends[i] = *count;
  }
  if (ends[0] > ends[1]) return DataLoss(fmt::format("data_offsets [{}, {}] end before they begin", ends[0], ends[1]));
  if (ends[1] > data_bytes) {
    return DataLoss(
        fmt::format("data_offsets [{}, {}] reach past the end of the data ({} bytes)", ends[0], ends[1], data_bytes));
  }
  return std::pair(ends[0], ends[1]);
}

// The three values of an entry.
struct EntryFields {
  const Json* dtype = nullptr;
  const Json* shape = nullptr;
  const Json* offsets = nullptr;
};

Result<EntryFields> FindFields(const Json& entry) {
  const Json::Object* members = entry.object();
  if (members == nullptr) {
    return DataLoss(fmt::format("entry is {}, expected an object with dtype, shape and data_offsets", Show(entry)));
  }
  EntryFields fields;
  for (const auto& [key, value] : *members) {
    if (key == "dtype") {
      fields.dtype = &value;
    } else if (key == "shape") {
      fields.shape = &value;
    } else if (key == "data_offsets") {
      fields.offsets = &value;
    } else {
      return DataLoss(fmt::format("unknown key {}, expected dtype, shape and data_offsets", QuoteName(key)));
    }
  }
  const char* missing = fields.dtype == nullptr     ? "dtype"
                        : fields.shape == nullptr   ? "shape"
                        : fields.offsets == nullptr ? "data_offsets"
                                                    : nullptr;
  if (missing != nullptr) return DataLoss(fmt::format("key {} is missing", missing));
  return fields;
}

Result<TensorInfo> ParseEntry(const std::string& name, const Json& entry, int64_t data_begin, int64_t data_bytes) {
  VX_ASSIGN(const EntryFields fields, FindFields(entry));
  TensorInfo tensor;
  tensor.name = name;
  VX_ASSIGN(tensor.dtype, ParseDType(*fields.dtype));
  VX_ASSIGN(tensor.dims, ParseShape(*fields.shape));
  if (*fields.dtype->string() == kPackedE2M1) VX_TRY(PackShape(tensor.dims));
  VX_ASSIGN(const auto range, ParseOffsets(*fields.offsets, data_bytes));
  tensor.begin = data_begin + range.first;
  tensor.end = data_begin + range.second;
  Result<int64_t> bytes = DenseBytes(tensor.dtype, tensor.dims);
  if (!bytes.ok()) return DataLoss(std::string(bytes.status().message()));
  if (*bytes != tensor.Bytes()) {
    return DataLoss(fmt::format("data_offsets [{}, {}] hold {} bytes, {} takes {}", range.first, range.second,
                                tensor.Bytes(), DescribeTensor(tensor.dtype, tensor.dims), *bytes));
  }
  return tensor;
}

// The tensors, sorted by offset, must follow each other from the first byte of the data to the last.
Status CheckCoverage(std::span<const TensorInfo> tensors, int64_t data_begin, int64_t data_bytes) {
  const TensorInfo* previous = nullptr;
  int64_t covered = data_begin;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.begin < covered) {
      return DataLoss(fmt::format("tensor {} begins at data offset {}, inside tensor {}, which ends at {}",
                                  QuoteName(tensor.name), tensor.begin - data_begin, QuoteName(previous->name),
                                  covered - data_begin));
    }
    if (tensor.begin > covered) {
      return DataLoss(fmt::format("{} bytes at data offset {}, before tensor {}, belong to no tensor",
                                  tensor.begin - covered, covered - data_begin, QuoteName(tensor.name)));
    }
    previous = &tensor;
    covered = tensor.end;
  }
  if (covered != data_begin + data_bytes) {
    return DataLoss(
        fmt::format("the last {} of {} data bytes belong to no tensor", data_begin + data_bytes - covered, data_bytes));
  }
  return {};
}

}  // namespace

Result<int64_t> DenseBytes(DType dtype, const Dims& dims) {
  int64_t bound = BytesOf(dtype);
  bool empty = false;
  for (int i = 0; i < dims.rank; ++i) {
    if (dims[i] < 0) return InvalidArgument(fmt::format("shape[{}] is {}, expected 0 or more", i, dims[i]));
    if (dims[i] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bound, dims[i], &bound)) {
      return InvalidArgument(fmt::format("{} takes more than 2^63 - 1 bytes", DescribeTensor(dtype, dims)));
    }
  }
  return empty ? 0 : bound;
}

std::string DescribeTensor(DType dtype, const Dims& dims) {
  return fmt::format("{} [{}]", NameOf(dtype), fmt::join(dims.d.begin(), dims.d.begin() + dims.rank, ", "));
}

Result<std::string_view> FindSafetensorsHeader(std::span<const uint8_t> bytes) {
  const int64_t file_bytes = static_cast<int64_t>(bytes.size());
  if (file_bytes < kSafetensorsPrefixBytes) {
    return DataLoss(fmt::format("file has {} bytes, a safetensors file has at least 8", file_bytes));
  }
  uint64_t length = 0;
  for (int i = 0; i < kSafetensorsPrefixBytes; ++i) length |= uint64_t{bytes[i]} << (8 * i);
  if (length > uint64_t{kMaxSafetensorsHeaderBytes}) {
    return DataLoss(fmt::format("header length is {}, a safetensors header has at most {} bytes", length,
                                kMaxSafetensorsHeaderBytes));
  }
  if (length > static_cast<uint64_t>(file_bytes - kSafetensorsPrefixBytes)) {
    return DataLoss(fmt::format("header of {} bytes runs past the end of the file ({} bytes)", length, file_bytes));
  }
  return std::string_view(reinterpret_cast<const char*>(bytes.data()) + kSafetensorsPrefixBytes, length);
}

Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view text, int64_t data_begin, int64_t data_bytes) {
  if (!text.starts_with('{')) {
    if (text.empty()) return DataLoss("header is empty, expected a JSON object");
    return DataLoss(fmt::format("header begins with byte {:#04x}, expected '{{'", static_cast<uint8_t>(text.front())));
  }
  Result<Json> json = Json::Parse(text);
  if (!json.ok()) {
    if (json.status().code() != Code::kInvalidArgument) return std::move(json).TakeError().Prefix("header");
    return DataLoss(fmt::format("header: {}", json.status().message()));
  }
  SafetensorsHeader header;
  for (const auto& [name, value] : *json->object()) {
    if (name == "__metadata__") {
      VX_ASSIGN(header.metadata, ParseMetadata(value));
      continue;
    }
    Result<TensorInfo> tensor = ParseEntry(name, value, data_begin, data_bytes);
    if (!tensor.ok()) return std::move(tensor).TakeError().Prefix("tensor " + QuoteName(name));
    header.tensors.push_back(*std::move(tensor));
  }
  // Tensors without elements share their offset with the tensor that follows and go before it.
  std::ranges::stable_sort(header.tensors, {}, [](const TensorInfo& t) { return std::pair(t.begin, t.end); });
  VX_TRY(CheckCoverage(header.tensors, data_begin, data_bytes));
  return header;
}

}  // namespace vexil
