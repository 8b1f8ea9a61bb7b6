#include "io/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "io/quote.h"

namespace vexil {
namespace {

constexpr uint64_t kMaxNameBytes = 65535;

bool IsKnown(uint32_t code) {
  switch (code) {
#define X(e, c, bytes, type) case c:
    VX_GGUF_VALUE_TYPES(X)
#undef X
    return true;
    default:
      return false;
  }
}

uint64_t SizeOf(GgufValueType type) {
  switch (type) {
#define X(e, code, bytes, host) \
  case GgufValueType::e:        \
    return bytes;
    VX_GGUF_VALUE_TYPES(X)
#undef X
  }
  return 0;
}

// The format is little-endian, as every machine this program runs on.
template <class T>
T Load(const uint8_t* from) {
  T v;
  std::memcpy(&v, from, sizeof(T));
  return v;
}

// Calls f with element i of numbers of any type, as their host type.
template <class F>
auto WithNumber(GgufValueType type, const uint8_t* bytes, uint64_t i, F&& f) {
  using Out = decltype(f(uint8_t{}));
  switch (type) {
#define X(e, code, size, host)                                                                                       \
  case GgufValueType::e:                                                                                             \
    if constexpr (std::is_arithmetic_v<host> && !std::is_same_v<host, bool>) return f(Load<host>(bytes + i * size)); \
    break;
    VX_GGUF_VALUE_TYPES(X)
#undef X
  }
  return Out{};
}

template <class T>
void AppendRaw(std::string& out, const T& v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof(T));
}

}  // namespace

const char* NameOf(GgufValueType type) {
  switch (type) {
#define X(e, code, bytes, host) \
  case GgufValueType::e:        \
    return &(#e)[1]; /* without the k */
    VX_GGUF_VALUE_TYPES(X)
#undef X
  }
  return "?";
}

// --- values ------------------------------------------------------------------------------------------------------

std::optional<int64_t> GgufValue::IntAt(uint64_t i) const {
  return WithNumber(type_, bytes_.data(), i, [](auto v) -> std::optional<int64_t> {
    if constexpr (std::is_integral_v<decltype(v)>) {
      if (std::in_range<int64_t>(v)) return static_cast<int64_t>(v);
    }
    return std::nullopt;
  });
}

std::optional<double> GgufValue::RealAt(uint64_t i) const {
  return WithNumber(type_, bytes_.data(), i, [](auto v) -> std::optional<double> { return static_cast<double>(v); });
}

std::optional<int64_t> GgufValue::Int() const { return is_array_ ? std::nullopt : IntAt(0); }
std::optional<double> GgufValue::Real() const { return is_array_ ? std::nullopt : RealAt(0); }

std::optional<bool> GgufValue::Bool() const {
  if (is_array_ || type_ != GgufValueType::kBool) return std::nullopt;
  return bytes_[0] != 0;
}

std::optional<std::string_view> GgufValue::Text() const {
  if (is_array_ || type_ != GgufValueType::kString) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
}

std::optional<std::vector<int64_t>> GgufValue::Ints() const {
  if (!is_array_) return std::nullopt;
  std::vector<int64_t> out;
  for (uint64_t i = 0; i < count_; ++i) {
    const std::optional<int64_t> v = IntAt(i);
    if (!v) return std::nullopt;
    out.push_back(*v);
  }
  return out;
}

std::optional<std::vector<double>> GgufValue::Reals() const {
  if (!is_array_) return std::nullopt;
  std::vector<double> out;
  for (uint64_t i = 0; i < count_; ++i) {
    const std::optional<double> v = RealAt(i);
    if (!v) return std::nullopt;
    out.push_back(*v);
  }
  return out;
}

std::optional<std::vector<std::string_view>> GgufValue::Texts() const {
  if (!is_array_ || type_ != GgufValueType::kString) return std::nullopt;
  std::vector<std::string_view> out;
  const uint8_t* at = bytes_.data();
  for (uint64_t i = 0; i < count_; ++i) {
    const uint64_t size = Load<uint64_t>(at);
    out.emplace_back(reinterpret_cast<const char*>(at + sizeof(size)), size);
    at += sizeof(size) + size;
  }
  return out;
}

std::string GgufValue::NumberText() const {
  if (is_array_) return "";
  return WithNumber(type_, bytes_.data(), 0, [](auto v) { return fmt::format("{}", v); });
}

std::string GgufValue::Describe() const {
  if (is_array_) return fmt::format("{} x {}", count_, NameOf(type_));
  if (const auto text = Text()) return QuoteName(*text);
  if (const auto b = Bool()) return *b ? "true" : "false";
  return NumberText();
}

// --- reading -----------------------------------------------------------------------------------------------------

Result<std::span<const uint8_t>> GgufMetadataReader::Take(uint64_t size, std::string_view what) {
  if (size > left()) {
    return DataLoss(fmt::format("{} at byte {} takes {} bytes, {} are left", what, offset_, size, left()));
  }
  const std::span<const uint8_t> taken = bytes_.subspan(offset_, static_cast<size_t>(size));
  offset_ += static_cast<size_t>(size);
  return taken;
}

Result<uint32_t> GgufMetadataReader::U32(std::string_view what) {
  VX_ASSIGN(const auto bytes, Take(sizeof(uint32_t), what));
  return Load<uint32_t>(bytes.data());
}

Result<uint64_t> GgufMetadataReader::U64(std::string_view what) {
  VX_ASSIGN(const auto bytes, Take(sizeof(uint64_t), what));
  return Load<uint64_t>(bytes.data());
}

Result<std::string_view> GgufMetadataReader::Text(std::string_view what, uint64_t max_bytes) {
  VX_ASSIGN(const uint64_t size, U64(what));
  if (size > max_bytes) return DataLoss(fmt::format("{} has {} bytes, expected at most {}", what, size, max_bytes));
  VX_ASSIGN(const auto bytes, Take(size, what));
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::string_view> GgufMetadataReader::Name(std::string_view what) {
  VX_ASSIGN(const std::string_view name, Text(what, kMaxNameBytes));
  if (name.empty()) return DataLoss(fmt::format("{} before byte {} is empty", what, offset_));
  const bool printable = std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
  if (!printable) return DataLoss(fmt::format("{} before byte {} is not printable ASCII", what, offset_));
  return name;
}

Result<GgufValue> GgufMetadataReader::Array() {
  VX_ASSIGN(const uint32_t code, U32("the element type of an array"));
  VX_ASSIGN(const uint64_t count, U64("the length of an array"));
  if (code == static_cast<uint32_t>(GgufValueType::kArray)) return Unsupported("an array of arrays is not supported");
  if (!IsKnown(code)) return DataLoss(fmt::format("an array has the unknown element type {}", code));
  GgufValue value;
  value.type_ = static_cast<GgufValueType>(code);
  value.is_array_ = true;
  value.count_ = count;
  if (value.type_ == GgufValueType::kString) {
    // Each string takes at least its length, so a wrong count ends at the end of the file.
    const size_t begin = offset_;
    for (uint64_t i = 0; i < count; ++i) {
      VX_ASSIGN([[maybe_unused]] const std::string_view text, Text("a string of an array", left()));
    }
    value.bytes_ = bytes_.subspan(begin, offset_ - begin);
    return value;
  }
  uint64_t size = 0;
  if (__builtin_mul_overflow(count, SizeOf(value.type_), &size)) {
    return DataLoss(fmt::format("an array has {} elements, more than any file holds", count));
  }
  VX_ASSIGN(value.bytes_, Take(size, "an array"));
  return value;
}

Result<GgufValue> GgufMetadataReader::Value(GgufValueType type) {
  if (type == GgufValueType::kArray) return Array();
  GgufValue value;
  value.type_ = type;
  if (type == GgufValueType::kString) {
    VX_ASSIGN(const std::string_view text, Text("a string", left()));
    value.bytes_ = {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
    return value;
  }
  VX_ASSIGN(value.bytes_, Take(SizeOf(type), "a value"));
  return value;
}

Result<GgufEntry> GgufMetadataReader::Entry() {
  GgufEntry entry;
  VX_ASSIGN(entry.key, Name("a metadata key"));
  const auto located = [&](Status status) { return std::move(status).Prefix("metadata " + QuoteName(entry.key)); };
  Result<uint32_t> code = U32("the type of a value");
  if (!code.ok()) return located(std::move(code).TakeError());
  if (!IsKnown(*code)) return located(DataLoss(fmt::format("unknown value type {}", *code)));
  Result<GgufValue> value = Value(static_cast<GgufValueType>(*code));
  if (!value.ok()) return located(std::move(value).TakeError());
  entry.value = *value;
  if (entry.value.type() == GgufValueType::kBool) {
    for (const uint8_t b : entry.value.bytes_) {
      if (b > 1) return located(DataLoss(fmt::format("a boolean is {}, expected 0 or 1", b)));
    }
  }
  return entry;
}

// --- writing -----------------------------------------------------------------------------------------------------

void AppendGguf(std::string& out, uint32_t v) { AppendRaw(out, v); }
void AppendGguf(std::string& out, uint64_t v) { AppendRaw(out, v); }
void AppendGguf(std::string& out, std::string_view text) {
  AppendRaw(out, uint64_t{text.size()});
  out += text;
}

namespace {

template <class T>
constexpr GgufValueType TypeOf() {
  if constexpr (std::is_same_v<T, std::string>) return GgufValueType::kString;
#define X(e, code, bytes, host) \
  if constexpr (std::is_same_v<T, host>) return GgufValueType::e;
  VX_GGUF_VALUE_TYPES(X)
#undef X
}

void AppendType(std::string& out, GgufValueType type) { AppendGguf(out, static_cast<uint32_t>(type)); }

template <class T>
void AppendElement(std::string& out, const T& v) {
  if constexpr (std::is_same_v<T, std::string>) {
    AppendGguf(out, std::string_view(v));
  } else {
    AppendRaw(out, v);
  }
}

template <class T>
void AppendValue(std::string& out, const T& v) {
  AppendType(out, TypeOf<T>());
  AppendElement(out, v);
}

template <class T>
void AppendValue(std::string& out, const std::vector<T>& list) {
  AppendType(out, GgufValueType::kArray);
  AppendType(out, TypeOf<T>());
  AppendGguf(out, uint64_t{list.size()});
  for (const T& v : list) AppendElement(out, v);
}

}  // namespace

void AppendGgufEntry(std::string& out, std::string_view key, const GgufScalarOrArray& value) {
  AppendGguf(out, key);
  std::visit([&](const auto& v) { AppendValue(out, v); }, value);
}

}  // namespace vexil
