#include "convert/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "convert/shard_rules.h"
#include "io/checkpoint_index.h"
#include "io/safetensors_header.h"

namespace vexil::convert {
namespace {

// Loaders of the publisher's tools ask for this entry.
const SafetensorsMetadata kMetadata = {{"format", "pt"}};

Json Fp8Config() {
  return Json(Json::Object{{"activation_scheme", "dynamic"},
                           {"fmt", "e4m3"},
                           {"quant_method", "fp8"},
                           {"scale_fmt", "ue8m0"},
                           {"weight_block_size", Json::Array{128, 128}}});
}

void MarkInt8(Json& quantization) {
  quantization.Set("quant_method", "linear_int8");
  quantization.Set("target", "moe_experts");
  quantization.Set("scheme", "per_channel_symmetric");
  quantization.Set("bits", 8);
  quantization.Set("scale_suffix", ".scale");
}

bool HasBlocks(LinearFormat linears, ExpertFormat experts) {
  return linears == LinearFormat::kE4M3 || experts == ExpertFormat::kE4M3 || experts == ExpertFormat::kE2M1;
}

// Sets or removes, and leaves an equal member where it is.
void Put(Json& object, std::string_view key, const Json& value) {
  value.is_null() ? RemoveMember(object, key) : object.Set(key, value);
}

Json QuantizationOf(const Json& config, LinearFormat linears, ExpertFormat experts) {
  const Json* stored = config.Find("quantization_config");
  const Json* method = stored == nullptr ? nullptr : stored->Find("quant_method");
  const bool keep = method != nullptr && *method == Json("fp8");  // with whatever else the publisher says there
  Json quantization = !HasBlocks(linears, experts) ? Json() : keep ? *stored : Fp8Config();
  if (experts == ExpertFormat::kInt8) MarkInt8(quantization);
  return quantization;
}

Json PublishedConfig(Json config, LinearFormat linears, ExpertFormat experts) {
  Put(config, "quantization_config", QuantizationOf(config, linears, experts));
  // The first release stores FP4 experts and does not say so.
  const bool fp4 = experts == ExpertFormat::kE2M1;
  if (!fp4 || config.Find("expert_dtype") != nullptr) Put(config, "expert_dtype", fp4 ? Json("fp4") : Json());
  if (config.Find("torch_dtype") == nullptr && config.Find("dtype") == nullptr) config.Set("torch_dtype", "bfloat16");
  return config;
}

Json InferenceConfig(Json config, LinearFormat linears, ExpertFormat experts) {
  const bool blocks = HasBlocks(linears, experts);
  Put(config, "dtype", blocks ? "fp8" : "bf16");
  Put(config, "scale_fmt", blocks ? Json("ue8m0") : Json());
  Put(config, "expert_dtype", experts == ExpertFormat::kE2M1 ? Json("fp4") : Json());
  Json quantization;
  if (experts == ExpertFormat::kInt8) MarkInt8(quantization);
  Put(config, "quantization_config", quantization);
  return config;
}

}  // namespace

int64_t LargestFileBytes(const Source& source) {
  int64_t bytes = 1;
  for (const SafetensorsFile& f : source.files().files()) bytes = std::max(bytes, f.data_bytes());
  return bytes;
}

Result<std::vector<OutputFile>> PublishedFiles(std::vector<SafetensorsTensor> tensors, int64_t shard_bytes) {
  std::vector<std::vector<SafetensorsTensor>> groups;
  int64_t filled = 0;
  for (SafetensorsTensor& t : tensors) {
    VX_ASSIGN(const int64_t bytes, DenseBytes(t.declaration.dtype, t.declaration.dims));
    if (groups.empty() || filled + bytes > shard_bytes) {
      groups.emplace_back();
      filled = 0;
    }
    filled += bytes;
    groups.back().push_back(std::move(t));
  }
  std::vector<OutputFile> files;
  for (std::vector<SafetensorsTensor>& group : groups) {
    std::ranges::stable_sort(group, std::greater(),
                             [](const SafetensorsTensor& t) { return BytesOf(t.declaration.dtype); });
    std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", files.size() + 1, groups.size());
    VX_ASSIGN(OutputFile file, SafetensorsOutput(std::move(name), std::move(group), kMetadata));
    files.push_back(std::move(file));
  }
  return files;
}

SmallFile PublishedIndex(const std::vector<OutputFile>& files) {
  std::map<std::string, std::string> places;
  int64_t total = 0;
  for (const OutputFile& f : files) {
    for (const OutputTensor& t : f.tensors) {
      places.emplace(t.name, f.name);
      total += t.bytes;
    }
  }
  Json::Object map;
  for (const auto& [tensor, file] : places) map.emplace_back(tensor, file);
  const Json index(
      Json::Object{{"metadata", Json(Json::Object{{"total_size", total}})}, {"weight_map", Json(std::move(map))}});
  return FixedFile(std::string(kCheckpointIndexName), index.ToText(2) + "\n");
}

void RemoveMember(Json& object, std::string_view key) {
  if (Json::Object* members = object.object()) std::erase_if(*members, [&](const auto& m) { return m.first == key; });
}

Json ConfigFor(Json config, LinearFormat linears, ExpertFormat experts) {
  return config.Find("dim") != nullptr ? InferenceConfig(std::move(config), linears, experts)
                                       : PublishedConfig(std::move(config), linears, experts);
}

Result<std::vector<SmallFile>> SideFiles(const Source& source, LinearFormat linears, ExpertFormat experts) {
  std::vector<SmallFile> out;
  VX_ASSIGN(std::vector<SideFile> files, ReadSideFiles(source.folder()));
  for (SideFile& f : files) {
    if (f.name == "inference/config.json" || f.name == "inference_config.json") {
      Result<Json> config = Json::Parse(f.text);
      if (!config.ok()) return std::move(config).TakeError().Prefix(f.name);
      const Json adapted = ConfigFor(*config, linears, experts);
      if (adapted != *config) f.text = adapted.ToText(2) + "\n";
    }
    out.push_back(FixedFile(std::move(f.name), std::move(f.text)));
  }
  return out;
}

Result<std::vector<SmallFile>> SideFilesOf(const std::string& folder) {
  std::vector<SmallFile> out;
  VX_ASSIGN(std::vector<SideFile> files, ReadSideFiles(folder));
  for (SideFile& f : files) out.push_back(FixedFile(std::move(f.name), std::move(f.text)));
  return out;
}

SmallFile AdaptedConfig(const Source& source, LinearFormat linears, ExpertFormat experts) {
  return FixedFile("config.json", ConfigFor(source.config(), linears, experts).ToText(2) + "\n");
}

LinearFormat StoredLinears(const Source& source) {
  for (const SourceTensor& t : source.tensors()) {
    if (ExpertOf(t.name) < 0 && t.storage == Storage::kE4M3) return LinearFormat::kE4M3;
  }
  return LinearFormat::kBF16;
}

ExpertFormat StoredExperts(const Source& source) {
  for (const SourceTensor& t : source.tensors()) {
    if (t.is_scale || ExpertOf(t.name) < 0 || !t.name.starts_with("layers.")) continue;
    switch (t.storage) {
      case Storage::kPlain:
        return ExpertFormat::kBF16;
      case Storage::kE4M3:
        return ExpertFormat::kE4M3;
      case Storage::kE2M1:
        return ExpertFormat::kE2M1;
      case Storage::kInt8:
        return ExpertFormat::kInt8;
    }
  }
  return ExpertFormat::kBF16;
}

Json IdentityOf(std::string_view command, Json options, const Source& source) {
  return Json(Json::Object{{"command", command}, {"options", std::move(options)}, {"source", source.identity()}});
}

}  // namespace vexil::convert
