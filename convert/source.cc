#include "convert/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "convert/job_record.h"
#include "io/checkpoint_index.h"
#include "io/manifest.h"
#include "io/quote.h"
#include "io/safetensors_header.h"
#include "model/tensor_names.h"
#include "model/weights.h"

namespace vexil::convert {
namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kMaxSideFileBytes = 64 << 20;

// Every byte in front of the tensors takes part, so two files with the same hash hold the same tensors at the same
// places.
Result<std::string> HeaderHash(const InputFile& file, const SafetensorsFile& tensors) {
  int64_t begin = file.size();
  for (const TensorInfo& t : tensors.tensors()) begin = std::min(begin, t.begin);
  std::vector<uint8_t> header(static_cast<size_t>(begin));
  VX_TRY(file.ReadAt(0, header));
  return HashText(TensorHash::Of(header));
}

std::string FileName(const std::string& path) { return std::filesystem::path(path).filename().string(); }

bool IsSideFile(std::string_view name) {
  if (name.starts_with('.') || name == "config.json" || name == kCheckpointIndexName) return false;
  if (name.starts_with("vexil-") && name.ends_with(".json")) return false;
  for (std::string_view suffix : {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".index.json"}) {
    if (name.ends_with(suffix)) return false;
  }
  return true;
}

}  // namespace

Result<Json> DescribeInput(const InputFile& file, const SafetensorsFile& tensors) {
  VX_ASSIGN(std::string hash, HeaderHash(file, tensors));
  return Json(Json::Object{{"name", FileName(file.path())},
                           {"bytes", file.size()},
                           {"modified_ns", file.modified_ns()},
                           {"header_xxh3", std::move(hash)}});
}

Result<std::vector<uint8_t>> SourceTensor::ReadAll() const {
  std::vector<uint8_t> bytes(size_t(info->Bytes()));
  VX_TRY(ReadAt(0, bytes));
  return bytes;
}

std::string SourceTensor::Where() const { return fmt::format("{}: tensor {}: ", file->path(), QuoteName(info->name)); }

Result<std::unique_ptr<const Source>> Source::Open(const std::string& path, const std::string& config_path) {
  std::unique_ptr<Source> s(new Source);
  s->path_ = path;
  if (!IsDirectory(path) && !FileExists(path)) return NotFound(fmt::format("{}: no such file or directory", path));
  if (IsGgufPath(path)) return Unsupported(fmt::format("{}: found a GGUF file, expected safetensors", path));
  s->folder_ = IsDirectory(path) ? path : std::filesystem::path(path).parent_path().string();
  if (s->folder_.empty()) s->folder_ = ".";
  const std::string config = config_path.empty() ? JoinPath(s->folder_, "config.json") : config_path;
  VX_ASSIGN(s->config_text_, ReadWholeFile(config, kMaxConfigBytes));
  Result<Json> parsed = Json::Parse(s->config_text_);
  if (!parsed.ok()) return std::move(parsed).TakeError().Prefix(config);
  s->config_ = *std::move(parsed);
  VX_ASSIGN(s->model_, ModelConfig::ReadFile(config));
  VX_ASSIGN(s->files_, CheckpointFiles::Open(path));
  {
    VX_ASSIGN(CheckpointFiles files, CheckpointFiles::Open(path));
    VX_ASSIGN(const ModelWeights checked,
              ModelWeights::Load(std::make_shared<const CheckpointFiles>(std::move(files)), s->model_));
  }
  VX_TRY(s->OpenInputs());
  VX_TRY(s->Classify());
  return std::unique_ptr<const Source>(std::move(s));
}

Status Source::OpenInputs() {
  Json::Array described;
  inputs_.reserve(files_.files().size());
  for (const SafetensorsFile& file : files_.files()) {
    VX_ASSIGN(InputFile input, InputFile::Open(file.path()));
    VX_ASSIGN(Json file_json, DescribeInput(input, file));
    described.push_back(std::move(file_json));
    inputs_.push_back(std::move(input));
  }
  identity_ = Json(Json::Object{{"files", std::move(described)},
                                {"config_xxh3", HashText([&] {
                                   const std::string text = config_.ToText();
                                   return TensorHash::Of({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
                                 }())}});
  return {};
}

Status Source::Classify() {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    for (const TensorInfo& info : files_.files()[i].tensors()) {
      tensors_.push_back({.name = CanonicalTensorName(info.name), .info = &info, .file = &inputs_[i]});
    }
  }
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
  for (SourceTensor& t : tensors_) VX_TRY(ClassifyMatrix(t));
  for (const SourceTensor& t : tensors_) {
    if (t.scale != nullptr) tensors_[size_t(t.scale - tensors_.data())].is_scale = true;
  }
  return {};
}

Status Source::ClassifyMatrix(SourceTensor& t) {
  const DType dtype = t.info->dtype;
  const bool packed = dtype == DType::kI8 || dtype == DType::kE2M1x2;
  if (dtype != DType::kE4M3 && !packed) return {};
  constexpr std::string_view kWeight = ".weight";
  const auto describe = [](const SourceTensor& x) { return DescribeTensor(x.info->dtype, x.info->dims); };
  if (!t.name.ends_with(kWeight) || !t.is_matrix()) {
    return InvalidArgument(fmt::format("{}found {}, expected a matrix named *.weight", t.Where(), describe(t)));
  }
  const std::string scale_name = t.name.substr(0, t.name.size() - kWeight.size()) + ".scale";
  t.scale = Find(scale_name);
  if (t.scale == nullptr)
    return InvalidArgument(fmt::format("{}tensor {} is missing", t.Where(), QuoteName(scale_name)));
  const Dims &w = t.info->dims, &s = t.scale->info->dims;
  const bool block_scale = t.scale->info->dtype == DType::kE8M0;
  const bool row_scale = t.scale->info->dtype == DType::kBF16 || t.scale->info->dtype == DType::kF32;
  if (dtype == DType::kE4M3) {
    t.storage = Storage::kE4M3;
    if (block_scale && s == Dims{CeilDiv(w[0], kTile), CeilDiv(w[1], kTile)}) return {};
    return InvalidArgument(fmt::format("{}found {}, expected F8_E8M0 [{}, {}]", t.scale->Where(), describe(*t.scale),
                                       CeilDiv(w[0], kTile), CeilDiv(w[1], kTile)));
  }
  if (row_scale && dtype == DType::kI8 && (s == Dims{w[0]} || s == Dims{w[0], 1})) {
    t.storage = Storage::kInt8;
    return {};
  }
  t.storage = Storage::kE2M1;
  if (block_scale && s == Dims{w[0], CeilDiv(2 * w[1], kE2M1Group)}) return {};
  return InvalidArgument(fmt::format("{}found {}, expected F8_E8M0 [{}, {}] for packed E2M1 or BF16 [{}] for INT8",
                                     t.scale->Where(), describe(*t.scale), w[0], CeilDiv(2 * w[1], kE2M1Group), w[0]));
}

const SourceTensor* Source::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Result<std::vector<SideFile>> ReadSideFiles(const std::string& root) {
  std::vector<SideFile> out;
  for (const char* sub : {"", "encoding", "inference"}) {
    const std::string folder = *sub ? JoinPath(root, sub) : root;
    if (!IsDirectory(folder)) continue;
    VX_ASSIGN(const std::vector<std::string> names, ListDirectory(folder));
    for (const std::string& name : names) {
      const std::string path = JoinPath(folder, name);
      if (!FileExists(path) || (!IsSideFile(name) && !(*sub && name == "config.json"))) continue;
      VX_ASSIGN(const InputFile file, InputFile::Open(path));
      if (file.size() > kMaxSideFileBytes) continue;
      VX_ASSIGN(std::string text, ReadWholeFile(path, kMaxSideFileBytes));
      out.push_back({*sub ? fmt::format("{}/{}", sub, name) : name, std::move(text)});
    }
  }
  return out;
}

}  // namespace vexil::convert
