#include "convert/unshard.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "convert/join_streams.h"
#include "convert/layout.h"
#include "convert/quantize_streams.h"
#include "convert/rank_files.h"
#include "convert/shard_rules.h"
#include "convert/source_layout.h"
#include "io/checkpoint_index.h"
#include "io/quote.h"
#include "io/safetensors_header.h"
#include "model/config.h"
#include "model/tensor_names.h"

namespace vexil::convert {
namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kMaxLayoutBytes = int64_t(1) << 30;

using Tensors = std::map<std::string, SafetensorsTensor, std::less<>>;

Result<std::optional<SourceLayout>> ReadLayout(const std::string& folder) {
  const std::string path = JoinPath(folder, kSourceLayoutName);
  if (!FileExists(path)) return std::optional<SourceLayout>();
  VX_ASSIGN(const std::string text, ReadWholeFile(path, kMaxLayoutBytes));
  VX_ASSIGN(SourceLayout layout, ParseSourceLayout(text, path));
  return std::optional(std::move(layout));
}

// Turns the output projections back into codes and scales where their scales are known.
void RestoreOutputProjections(const SourceLayout& layout, Tensors& tensors) {
  for (const auto& [scale_name, scales] : layout.scales) {
    const std::string name = scale_name.substr(0, scale_name.rfind('.')) + ".weight";
    const auto it = tensors.find(name);
    if (it == tensors.end() || it->second.declaration.dtype != DType::kBF16) continue;
    const Dims dims = it->second.declaration.dims;
    const Dims tiles{CeilDiv(dims[0], kTile), CeilDiv(dims[1], kTile)};
    if (dims.rank != 2 || tiles.Count() != int64_t(scales.size())) continue;
    SafetensorsTensor& codes = it->second;
    codes.declaration.dtype = DType::kE4M3;
    codes.granule = dims[1];
    codes.open = [values = codes.open, cols = dims[1], bytes = scales, name] {
      return RequantizeExactly(values(), cols, bytes, name);
    };
    SafetensorsTensor& scale = tensors[scale_name];
    scale.declaration.name = scale_name;
    scale.declaration.dtype = DType::kE8M0;
    scale.declaration.dims = tiles;
    scale.open = [bytes = scales] { return FixedBytes(bytes); };
  }
}

// A file of the original checkpoint with its header as it was; the reason when its tensors are not all there as they
// were.
Result<OutputFile> OriginalFile(const SourceLayout::File& file, const Tensors& tensors) {
  VX_ASSIGN(const Json json, Json::Parse(file.header));
  int64_t data_bytes = 0;
  for (const auto& [name, entry] : json.is_object() ? *json.object() : Json::Object()) {
    const Json* offsets = entry.Find("data_offsets");
    if (offsets == nullptr || !offsets->is_array() || offsets->array()->size() != 2) continue;
    data_bytes = std::max(data_bytes, (*offsets->array())[1].Int().value_or(0));
  }
  const int64_t begin = kSafetensorsPrefixBytes + int64_t(file.header.size());
  VX_ASSIGN(const SafetensorsHeader header, ParseSafetensorsHeader(file.header, begin, data_bytes));
  OutputFile out;
  out.name = file.name;
  for (int shift = 0; shift < 64; shift += 8) out.head += char(uint64_t{file.header.size()} >> shift);
  out.head += file.header;
  out.bytes = begin + data_bytes;
  if (header.tensors.empty()) return InvalidArgument(fmt::format("file {} held no tensors", QuoteName(file.name)));
  for (const TensorInfo& info : header.tensors) {
    const auto it = tensors.find(CanonicalTensorName(info.name));
    if (it == tensors.end()) return NotFound(fmt::format("tensor {} is not in the rank files", QuoteName(info.name)));
    const SafetensorsTensor& t = it->second;
    const DType stored = info.dtype == DType::kE2M1x2 ? DType::kI8 : info.dtype;
    if (t.declaration.dtype != stored || t.declaration.dims != info.dims) {
      return InvalidArgument(fmt::format("tensor {} was {} and is {} now", QuoteName(info.name),
                                         DescribeTensor(info.dtype, info.dims),
                                         DescribeTensor(t.declaration.dtype, t.declaration.dims)));
    }
    WrittenType type = WrittenTypeOf(info.dtype, info.dims);
    out.tensors.push_back({info.name, std::move(type.dtype), type.shape, info.begin, info.Bytes(), t.granule, t.open});
  }
  return out;
}

Result<std::vector<OutputFile>> OriginalFiles(const SourceLayout& layout, const Tensors& tensors) {
  std::vector<OutputFile> out;
  for (const SourceLayout::File& f : layout.files) {
    VX_ASSIGN(OutputFile file, OriginalFile(f, tensors));
    out.push_back(std::move(file));
  }
  return out;
}

// The original small files.
std::vector<SmallFile> OriginalSmallFiles(const SourceLayout& layout) {
  std::vector<SmallFile> out;
  out.push_back(FixedFile("config.json", layout.config));
  if (!layout.index.empty()) out.push_back(FixedFile(std::string(kCheckpointIndexName), layout.index));
  return out;
}

}  // namespace

Result<Job> UnshardJob(const std::string& path, const std::string& config_path, const std::string& output,
                       int64_t shard_bytes) {
  VX_ASSIGN(std::shared_ptr<const RankFiles> ranks, RankFiles::Open(path));
  VX_ASSIGN(const std::string config,
            ReadWholeFile(config_path.empty() ? JoinPath(path, "config.json") : config_path, kMaxConfigBytes));
  VX_ASSIGN(const ModelConfig model, ModelConfig::Parse(config, config_path.empty() ? "config.json" : config_path));
  VX_ASSIGN(const ShardRules rules, ShardRules::For(model, ranks->ranks(), true));
  VX_ASSIGN(const std::optional<SourceLayout> layout, ReadLayout(path));
  Tensors tensors;
  for (const std::string& name : ranks->names()) {
    VX_ASSIGN(tensors[name], ranks->Joined(rules, name));
  }
  Job job;
  job.directory = output;
  job.identity = Json(Json::Object{{"command", "unshard"},
                                   {"options", Json(Json::Object{{"max_shard_size", shard_bytes}})},
                                   {"source", ranks->identity()}});
  VX_ASSIGN(job.small_files, SideFilesOf(path));
  std::string reason = fmt::format("{} is not beside the ranks; wo_a stays BF16", kSourceLayoutName);
  if (layout) {
    Tensors restored = tensors;
    RestoreOutputProjections(*layout, restored);
    Result<std::vector<OutputFile>> files = OriginalFiles(*layout, restored);
    if (files.ok()) {
      job.files = *std::move(files);
      std::ranges::move(OriginalSmallFiles(*layout), std::back_inserter(job.small_files));
      job.remarks = [](std::span<const FileRecord>) {
        return Remarks{"the original files are restored byte for byte"};
      };
      job.source = std::move(ranks);
      return job;
    }
    reason = files.status().message();
  }
  job.remarks = [reason](std::span<const FileRecord>) { return Remarks{"not the original files: " + reason}; };
  std::vector<SafetensorsTensor> ordered;
  for (const std::string& name : ranks->names()) ordered.push_back(tensors.at(name));
  VX_ASSIGN(job.files, PublishedFiles(std::move(ordered), shard_bytes > 0 ? shard_bytes : ranks->largest_file_bytes()));
  job.small_files.push_back(FixedFile("config.json", config));
  job.small_files.push_back(PublishedIndex(job.files));
  job.source = std::move(ranks);
  return job;
}

}  // namespace vexil::convert
