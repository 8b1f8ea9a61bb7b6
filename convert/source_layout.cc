#include "convert/source_layout.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "base/json.h"
#include "convert/shard_rules.h"
#include "io/checkpoint_index.h"
#include "io/safetensors_header.h"

namespace vexil::convert {
namespace {

constexpr int kVersion = 1;

std::string ToHex(std::span<const uint8_t> bytes) {
  std::string text;
  for (uint8_t b : bytes) text += fmt::format("{:02x}", b);
  return text;
}

std::optional<std::vector<uint8_t>> FromHex(const std::string& text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::vector<uint8_t> bytes(text.size() / 2);
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    bytes[i / 2] = uint8_t(bytes[i / 2] << 4 | digit);
  }
  return bytes;
}

Result<std::string> ReadHeader(const std::string& path) {
  VX_ASSIGN(const InputFile file, InputFile::Open(path));
  std::vector<uint8_t> bytes(size_t(std::min<int64_t>(file.size(), kSafetensorsPrefixBytes)));
  VX_TRY(file.ReadAt(0, bytes));
  uint64_t length = 0;
  for (size_t i = 0; i < bytes.size(); ++i) length |= uint64_t{bytes[i]} << (8 * i);
  std::string header(size_t(std::min<uint64_t>(length, kMaxSafetensorsHeaderBytes)), '\0');
  VX_TRY(file.ReadAt(kSafetensorsPrefixBytes, {reinterpret_cast<uint8_t*>(header.data()), header.size()}));
  return header;
}

const std::string* Text(const Json& root, std::string_view key) {
  const Json* value = root.Find(key);
  return value == nullptr ? nullptr : value->string();
}

}  // namespace

Result<SourceLayout> DescribeSource(const Source& source) {
  SourceLayout layout;
  for (const SafetensorsFile& file : source.files().files()) {
    VX_ASSIGN(std::string header, ReadHeader(file.path()));
    layout.files.push_back({std::filesystem::path(file.path()).filename().string(), std::move(header)});
  }
  layout.config = source.config_text();
  constexpr int64_t kMaxIndexBytes = kMaxCheckpointIndexBytes;
  const std::string index = JoinPath(source.folder(), kCheckpointIndexName);
  if (IsDirectory(source.path()) && FileExists(index)) {
    VX_ASSIGN(layout.index, ReadWholeFile(index, kMaxIndexBytes));
  }
  for (const SourceTensor& t : source.tensors()) {
    if (!IsOutputProjection(t.name) || t.storage != Storage::kE4M3) continue;
    VX_ASSIGN(layout.scales[t.scale->name], t.scale->ReadAll());
  }
  return layout;
}

std::string FormatSourceLayout(const SourceLayout& layout) {
  Json::Array files;
  for (const SourceLayout::File& f : layout.files)
    files.push_back(Json(Json::Object{{"name", f.name}, {"header", f.header}}));
  Json::Object scales;
  for (const auto& [name, bytes] : layout.scales) scales.emplace_back(name, ToHex(bytes));
  return Json(Json::Object{{"version", kVersion},
                           {"files", std::move(files)},
                           {"config", layout.config},
                           {"index", layout.index},
                           {"scales", std::move(scales)}})
             .ToText(1) +
         "\n";
}

Result<SourceLayout> ParseSourceLayout(std::string_view text, std::string_view path) {
  const auto bad = [&](std::string_view what) { return DataLoss(fmt::format("{}: {}", path, what)); };
  Result<Json> root = Json::Parse(text);
  if (!root.ok()) return bad(root.status().message());
  const Json* version = root->Find("version");
  if (version == nullptr || version->Int() != kVersion) return bad("version: expected 1");
  SourceLayout layout;
  const Json *files = root->Find("files"), *scales = root->Find("scales");
  if (files == nullptr || !files->is_array()) return bad("files: expected a list");
  for (const Json& entry : *files->array()) {
    const std::string *name = Text(entry, "name"), *header = Text(entry, "header");
    const bool plain = name != nullptr && !name->empty() && name->front() != '.' && name->find('/') == name->npos;
    if (!plain || header == nullptr) return bad("files: expected plain names and headers");
    layout.files.push_back({*name, *header});
  }
  const std::string *config = Text(*root, "config"), *index = Text(*root, "index");
  if (config == nullptr || index == nullptr) return bad("config, index: expected strings");
  layout.config = *config;
  layout.index = *index;
  if (scales == nullptr || !scales->is_object()) return bad("scales: expected an object");
  for (const auto& [name, value] : *scales->object()) {
    std::optional<std::vector<uint8_t>> bytes = value.is_string() ? FromHex(*value.string()) : std::nullopt;
    if (!bytes) return bad("scales: expected hexadecimal digits");
    layout.scales.emplace(name, *std::move(bytes));
  }
  return layout;
}

}  // namespace vexil::convert
