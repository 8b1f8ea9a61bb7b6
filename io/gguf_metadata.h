// The metadata of GGUF files: typed values under keys such as "deepseek4.block_count".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"

namespace vexil {

// enumerator, code in the file, bytes of one value (0: its length is in the file), host type
#define VX_GGUF_VALUE_TYPES(X)              \
  X(kU8, 0, 1, uint8_t)                     \
  X(kI8, 1, 1, int8_t)                      \
  X(kU16, 2, 2, uint16_t)                   \
  X(kI16, 3, 2, int16_t)                    \
  X(kU32, 4, 4, uint32_t)                   \
  X(kI32, 5, 4, int32_t)                    \
  X(kF32, 6, 4, float)                      \
  X(kBool, 7, 1, bool)                      \
  X(kString, 8, 0, std::string_view)        \
  X(kArray, 9, 0, std::span<const uint8_t>) \
  X(kU64, 10, 8, uint64_t)                  \
  X(kI64, 11, 8, int64_t)                   \
  X(kF64, 12, 8, double)

// The whole tokenizer.json of a model, as the format's specification names the key.
inline constexpr std::string_view kGgufTokenizerJson = "tokenizer.huggingface.json";

enum class GgufValueType : uint32_t {
#define X(e, code, bytes, type) e = code,
  VX_GGUF_VALUE_TYPES(X)
#undef X
};

// "u32", for messages.
const char* NameOf(GgufValueType type);

// A value that stays in the file's bytes, which its reader has checked to the last one. Cheap to copy; valid as long
// as those bytes.
class GgufValue {
 public:
  GgufValueType type() const { return type_; }
  bool is_array() const { return is_array_; }
  // 1 for what is no array.
  uint64_t count() const { return count_; }

  // The value, or nullopt when it has another type. Int: any integer type within int64; Real: any number.
  std::optional<int64_t> Int() const;
  std::optional<double> Real() const;
  std::optional<bool> Bool() const;
  std::optional<std::string_view> Text() const;
  // Arrays of these types.
  std::optional<std::vector<int64_t>> Ints() const;
  std::optional<std::vector<double>> Reals() const;
  std::optional<std::vector<std::string_view>> Texts() const;
  // F32 as its shortest decimal text, so that 1e-6 comes back as 1e-6; also integers. Empty for other types.
  std::string NumberText() const;
  // For people: numbers and strings as they are, arrays by their type and count.
  std::string Describe() const;

 private:
  friend class GgufMetadataReader;
  std::optional<int64_t> IntAt(uint64_t i) const;
  std::optional<double> RealAt(uint64_t i) const;

  GgufValueType type_ = GgufValueType::kU8;  // of the elements
  bool is_array_ = false;
  uint64_t count_ = 1;
  std::span<const uint8_t> bytes_;
};

struct GgufEntry {
  std::string_view key;
  GgufValue value;
};

// Reads numbers, strings and entries from the front of bytes that nobody has checked. Every length is compared with
// what is left before it is used; nothing is allocated. kDataLoss, or kUnsupported for an array of arrays.
class GgufMetadataReader {
 public:
  explicit GgufMetadataReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  size_t offset() const { return offset_; }
  size_t left() const { return bytes_.size() - offset_; }

  Result<uint32_t> U32(std::string_view what);
  Result<uint64_t> U64(std::string_view what);
  // Of at most `max_bytes`; `what` names it in messages.
  Result<std::string_view> Text(std::string_view what, uint64_t max_bytes);
  // A name that is printable ASCII, not empty and at most 65535 bytes long.
  Result<std::string_view> Name(std::string_view what);
  Result<GgufEntry> Entry();

 private:
  Result<std::span<const uint8_t>> Take(uint64_t size, std::string_view what);
  Result<GgufValue> Value(GgufValueType type);
  Result<GgufValue> Array();

  std::span<const uint8_t> bytes_;
  size_t offset_ = 0;
};

// What a writer puts into a file.
using GgufScalarOrArray = std::variant<uint32_t, float, bool, std::string, std::vector<int32_t>, std::vector<float>,
                                       std::vector<std::string>>;
using GgufMetadata = std::vector<std::pair<std::string, GgufScalarOrArray>>;

// Appends the file's form of integers, strings and entries.
void AppendGguf(std::string& out, uint32_t v);
void AppendGguf(std::string& out, uint64_t v);
void AppendGguf(std::string& out, std::string_view text);
void AppendGgufEntry(std::string& out, std::string_view key, const GgufScalarOrArray& value);

}  // namespace vexil
