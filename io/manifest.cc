#include "io/manifest.h"

#include <fmt/format.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // the widest vectors of this processor
#endif

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/check.h"
#include "base/json.h"
#include "io/file.h"
#include "io/quote.h"

namespace vexil {
namespace {

constexpr int64_t kVersion = 1;
constexpr size_t kChecksumDigits = 16;

Status Wrong(const Json& found, std::string_view expected) {
  const std::string text = found.is_number() ? found.number()->text : fmt::format("a JSON {}", found.TypeName());
  return DataLoss(fmt::format("found {}, expected {}", text, expected));
}

// `value` is an object with exactly these members, in any order.
Status ExpectMembers(const Json& value, std::initializer_list<std::string_view> names) {
  if (!value.is_object()) return Wrong(value, "an object");
  for (std::string_view name : names) {
    if (value.Find(name) == nullptr) return DataLoss(fmt::format("{} is missing", name));
  }
  for (const auto& [name, member] : *value.object()) {
    if (std::ranges::find(names, name) == names.end())
      return DataLoss(fmt::format("unknown member {}", QuoteName(name)));
  }
  return {};
}

Result<int64_t> ReadSize(const Json& value) {
  const std::optional<int64_t> size = value.Int();
  if (!size || *size < 0) return Wrong(value, "an integer from 0 to 2^63 - 1");
  return *size;
}

Result<uint64_t> ReadChecksum(const Json& value) {
  const std::string* text = value.string();
  if (text == nullptr) return Wrong(value, "16 hexadecimal digits");
  uint64_t bits = 0;
  const char* const end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, bits, 16);
  // Written back and compared, so signs, short and upper-case forms are no checksums.
  if (error != std::errc() || stop != end || HashText(bits) != *text) {
    return DataLoss(
        fmt::format("found {}, expected {} lower-case hexadecimal digits", QuoteName(*text), kChecksumDigits));
  }
  return bits;
}

Result<std::string> ReadDType(const Json& value) {
  if (!value.is_string()) return Wrong(value, "the name of an element type");
  return *value.string();
}

Result<Dims> ReadShape(const Json& value) {
  const Json::Array* list = value.array();
  if (list == nullptr || list->size() > size_t{kMaxRank})
    return Wrong(value, fmt::format("a list of at most {} sizes", kMaxRank));
  Dims dims;
  for (const Json& size : *list) {
    VX_ASSIGN(dims.d[size_t(dims.rank)], ReadSize(size));
    ++dims.rank;
  }
  return dims;
}

// Puts the member's name in front of an error of reading it.
template <class T>
Status Into(T& to, Result<T> read, std::string_view member) {
  if (!read.ok()) return std::move(read).TakeError().Prefix(member);
  to = *std::move(read);
  return {};
}

Result<ManifestTensor> ReadTensor(const std::string& name, const Json& value) {
  VX_TRY(ExpectMembers(value, {"xxh3", "dtype", "shape"}));
  ManifestTensor tensor{.name = name, .xxh3 = 0, .dtype = {}, .shape = {}};
  VX_TRY(Into(tensor.xxh3, ReadChecksum(*value.Find("xxh3")), "xxh3"));
  VX_TRY(Into(tensor.dtype, ReadDType(*value.Find("dtype")), "dtype"));
  VX_TRY(Into(tensor.shape, ReadShape(*value.Find("shape")), "shape"));
  return tensor;
}

Result<ManifestFile> ReadFile(const std::string& name, const Json& value) {
  if (name.empty() || name == "." || name == ".." || name.find_first_of(std::string_view("/\\\0", 3)) != name.npos) {
    return DataLoss("expected a plain file name");
  }
  VX_TRY(ExpectMembers(value, {"bytes", "tensors"}));
  ManifestFile file{.name = name, .bytes = 0, .tensors = {}};
  VX_TRY(Into(file.bytes, ReadSize(*value.Find("bytes")), "bytes"));
  const Json& tensors = *value.Find("tensors");
  if (!tensors.is_object()) return Wrong(tensors, "an object").Prefix("tensors");
  for (const auto& [tensor, description] : *tensors.object()) {
    Result<ManifestTensor> read = ReadTensor(tensor, description);
    if (!read.ok()) return std::move(read).TakeError().Prefix("tensor " + QuoteName(tensor));
    file.tensors.push_back(*std::move(read));
  }
  return file;
}

Result<Manifest> ReadRoot(const Json& root) {
  VX_TRY(ExpectMembers(root, {"version", "files"}));
  if (root.Find("version")->Int() != kVersion) return Wrong(*root.Find("version"), "1").Prefix("version");
  const Json& files = *root.Find("files");
  if (!files.is_object()) return Wrong(files, "an object").Prefix("files");
  Manifest manifest;
  for (const auto& [name, description] : *files.object()) {
    Result<ManifestFile> file = ReadFile(name, description);
    if (!file.ok()) return std::move(file).TakeError().Prefix("file " + QuoteName(name));
    manifest.files.push_back(*std::move(file));
  }
  return manifest;
}

Json DescribeFile(const ManifestFile& file) {
  Json::Object tensors;
  for (const ManifestTensor& t : file.tensors) {
    Json::Array shape(t.shape.d.begin(), t.shape.d.begin() + t.shape.rank);
    tensors.emplace_back(t.name,
                         Json::Object{{"xxh3", HashText(t.xxh3)}, {"dtype", t.dtype}, {"shape", std::move(shape)}});
  }
  return Json(Json::Object{{"bytes", file.bytes}, {"tensors", std::move(tensors)}});
}

XXH3_state_t* StateOf(void* state) { return static_cast<XXH3_state_t*>(state); }

}  // namespace

TensorHash::TensorHash() : state_(XXH3_createState()) {
  VX_CHECK(state_ != nullptr, "no memory for a hash");
  XXH3_64bits_reset(StateOf(state_.get()));
}

void TensorHash::Update(std::span<const uint8_t> bytes) {
  XXH3_64bits_update(StateOf(state_.get()), bytes.data(), bytes.size());
}

uint64_t TensorHash::Value() const { return XXH3_64bits_digest(StateOf(state_.get())); }

uint64_t TensorHash::Of(std::span<const uint8_t> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

void TensorHash::FreeState::operator()(void* state) const { XXH3_freeState(StateOf(state)); }

const ManifestFile* Manifest::Find(std::string_view file) const {
  const auto it = std::ranges::find(files, file, &ManifestFile::name);
  return it == files.end() ? nullptr : &*it;
}

std::string HashText(uint64_t xxh3) { return fmt::format("{:016x}", xxh3); }

Result<Manifest> ParseManifest(std::string_view text, std::string_view path) {
  Result<Json> root = Json::Parse(text);
  if (!root.ok()) {
    if (root.status().code() != Code::kInvalidArgument) return std::move(root).TakeError().Prefix(path);
    return DataLoss(fmt::format("{}: {}", path, root.status().message()));
  }
  Result<Manifest> manifest = ReadRoot(*root);
  if (!manifest.ok()) return std::move(manifest).TakeError().Prefix(path);
  return manifest;
}

std::string FormatManifest(const Manifest& manifest) {
  Json::Object files;
  for (const ManifestFile& file : manifest.files) files.emplace_back(file.name, DescribeFile(file));
  return Json(Json::Object{{"version", kVersion}, {"files", std::move(files)}}).ToText(1) + "\n";
}

Result<Manifest> ReadManifest(const std::string& directory) {
  const std::string path = JoinPath(directory, kManifestName);
  VX_ASSIGN(const std::string text, ReadWholeFile(path, kMaxManifestBytes));
  return ParseManifest(text, path);
}

Status WriteManifest(const std::string& directory, const Manifest& manifest) {
  VX_ASSIGN(AtomicFile file, AtomicFile::Create(JoinPath(directory, kManifestName)));
  VX_TRY(file.Write(FormatManifest(manifest)));
  return file.Commit();
}

}  // namespace vexil
