#include "convert/make_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "convert/layout.h"
#include "convert/random_weights.h"
#include "io/file.h"
#include "model/config.h"
#include "model/tensor_inventory.h"

namespace vexil::convert {
namespace {

constexpr int64_t kMaxSmallFileBytes = int64_t(1) << 28;

// What the changed sizes are called in the two dialects.
struct SizeKeys {
  const char *layers, *hash_layers, *draft_layers, *experts, *active;
};
constexpr SizeKeys kPublishedKeys = {"num_hidden_layers", "num_hash_layers", "num_nextn_predict_layers",
                                     "n_routed_experts", "num_experts_per_tok"};
constexpr SizeKeys kInferenceKeys = {"n_layers", "n_hash_layers", "n_mtp_layers", "n_routed_experts",
                                     "n_activated_experts"};

std::optional<int64_t> IntOf(const Json& config, const char* key) {
  const Json* value = config.Find(key);
  return value == nullptr ? std::nullopt : value->Int();
}

void LimitTo(Json& config, const char* key, int64_t most) {
  if (const std::optional<int64_t> now = IntOf(config, key); now && *now > most) config.Set(key, most);
}

// The first `layers` entries of a list with one entry per layer.
void Shorten(Json& config, const char* key, int64_t layers) {
  Json* list = config.Find(key);
  if (list != nullptr && list->is_array() && int64_t(list->array()->size()) > layers)
    list->array()->resize(size_t(layers));
}

// How the bytes of a stored tensor are made: those from `begin` on.
using FillFunction = void (*)(const RandomTensor& tensor, int64_t begin, std::span<uint8_t> out);

void FillWeight(const RandomTensor& tensor, int64_t begin, std::span<uint8_t> out) { tensor.FillWeight(begin, out); }
void FillScale(const RandomTensor& tensor, int64_t begin, std::span<uint8_t> out) { tensor.FillScale(begin, out); }
void FillDequantized(const RandomTensor& tensor, int64_t begin, std::span<uint8_t> out) {
  constexpr int64_t kElement = sizeof(uint16_t);
  tensor.FillDequantizedRows(begin / kElement / tensor.spec().dims[1],
                             {reinterpret_cast<uint16_t*>(out.data()), out.size() / kElement});
}

class RandomStream : public TensorStream {
 public:
  RandomStream(RandomTensor tensor, FillFunction fill) : tensor_(std::move(tensor)), fill_(fill) {}
  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch&) override {
    fill_(tensor_, begin, out);
    return {};
  }

 private:
  const RandomTensor tensor_;
  const FillFunction fill_;
};

void AddTensors(const TensorSpec& spec, const MakeOptions& options, int64_t experts,
                std::vector<SafetensorsTensor>& out) {
  const auto add = [&](const StoredTensor& stored, int64_t granule, FillFunction fill) {
    out.push_back({.declaration = {stored.name, stored.dtype, stored.dims},
                   .granule = granule,
                   .open = [spec, seed = options.seed, experts, fill] {
                     return std::make_unique<RandomStream>(RandomTensor(spec, seed, experts), fill);
                   }});
  };
  const std::vector<StoredTensor> stored = PublishedForm(spec);
  const bool scaled = stored.size() > 1;
  if (scaled && options.plan == DTypePlan::kBf16) {
    const StoredTensor plain{spec.name, DType::kBF16, spec.dims};
    add(plain, spec.dims[1] * BytesOf(plain.dtype), FillDequantized);
    return;
  }
  const int64_t unit = BytesOf(stored[0].dtype) * (spec.role == TensorRole::kTable ? spec.dims[1] : 1);
  add(stored[0], unit, FillWeight);
  if (scaled) add(stored[1], 1, FillScale);
}

DraftLayout Drafts(const Json& config, int64_t blocks) {
  DraftLayout drafts;
  if (blocks == 0) return drafts;
  drafts.blocks = blocks;
  drafts.kind = DraftLayout::Kind::kSequential;
  if (!IntOf(config, "dspark_block_size")) return drafts;
  drafts.kind = DraftLayout::Kind::kParallel;
  drafts.markov_rank = IntOf(config, "dspark_markov_rank").value_or(drafts.markov_rank);
  const Json* sources = config.Find("dspark_target_layer_ids");
  if (sources != nullptr && sources->is_array()) drafts.source_layers = int64_t(sources->array()->size());
  return drafts;
}

Status CheckPackable(const ModelConfig& c, const std::string& path) {
  const auto even = [&](std::string_view what, int64_t size) -> Status {
    if (size % 2 == 0) return {};
    return InvalidArgument(
        fmt::format("{}: {}: found {}, expected an even number (two E2M1 codes fill a byte)", path, what, size));
  };
  VX_TRY(even("width of the model", c.dim));
  return even("width of an expert", c.expert_dim);
}

}  // namespace

Result<Json> AdaptConfig(Json config, const MakeOptions& options) {
  const SizeKeys& keys = config.Find("dim") != nullptr ? kInferenceKeys : kPublishedKeys;
  if (!options.ratios.empty()) {
    Json::Array ratios(options.ratios.begin(), options.ratios.end());
    config.Set("compress_ratios", std::move(ratios));
    RemoveMember(config, "layer_types");
    if (options.layers == 0) config.Set(keys.layers, int64_t(options.ratios.size()));
  }
  const std::optional<int64_t> all = IntOf(config, keys.layers);
  const int64_t layers = options.layers > 0 ? options.layers : all.value_or(0);
  if (options.ratios.empty() && all && layers > *all) {
    return InvalidArgument(
        fmt::format("--layers: found {}, expected at most the {} of the configuration (or --ratios)", layers, *all));
  }
  if (!options.ratios.empty() && layers != int64_t(options.ratios.size())) {
    return InvalidArgument(fmt::format("--ratios: found {} entries, expected one for each of the {} layers",
                                       options.ratios.size(), layers));
  }
  config.Set(keys.layers, layers);
  for (const char* list : {"compress_ratios", "layer_types", "mlp_layer_types"}) Shorten(config, list, layers);
  LimitTo(config, keys.hash_layers, layers);
  if (options.experts > 0) config.Set(keys.experts, options.experts);
  LimitTo(config, keys.active, IntOf(config, keys.experts).value_or(1));
  config.Set(keys.draft_layers, options.draft_layers);
  if (Json* ratios = config.Find("compress_ratios"); ratios != nullptr && ratios->is_array()) {
    for (int64_t i = 0; i < options.draft_layers; ++i) ratios->array()->push_back(0);
  }
  if (options.draft_layers == 0 && config.is_object()) {
    std::vector<std::string> parallel;
    for (const auto& [key, value] : *config.object()) {
      if (key.starts_with("dspark_")) parallel.push_back(key);
    }
    for (const std::string& key : parallel) RemoveMember(config, key);
  }
  const bool bf16 = options.plan == DTypePlan::kBf16;
  return ConfigFor(std::move(config), bf16 ? LinearFormat::kBF16 : LinearFormat::kE4M3,
                   bf16 ? ExpertFormat::kBF16 : ExpertFormat::kE2M1);
}

Result<Job> MakeCheckpointJob(const MakeOptions& options, const std::string& output) {
  VX_ASSIGN(const std::string text, ReadWholeFile(options.config_path, kMaxSmallFileBytes));
  Result<Json> parsed = Json::Parse(text);
  if (!parsed.ok()) return std::move(parsed).TakeError().Prefix(options.config_path);
  if (!parsed->is_object())
    return InvalidArgument(fmt::format("{}: found {}, expected an object", options.config_path, parsed->TypeName()));
  VX_ASSIGN(const Json config, AdaptConfig(*std::move(parsed), options));
  const std::string config_text = config.ToText(2) + "\n";
  VX_ASSIGN(const ModelConfig model, ModelConfig::Parse(config_text, options.config_path));
  VX_TRY(CheckPackable(model, options.config_path));
  std::vector<SafetensorsTensor> tensors;
  for (const TensorSpec& spec : TensorInventory(model, {.drafts = Drafts(config, options.draft_layers)})) {
    AddTensors(spec, options, model.num_experts, tensors);
  }
  Job job;
  job.directory = output;
  VX_ASSIGN(job.files, PublishedFiles(std::move(tensors), options.shard_bytes));
  job.identity = Json::Object{{"command", "make-checkpoint"},
                              {"seed", Json::Number{std::to_string(options.seed)}},
                              {"plan", options.plan == DTypePlan::kBf16 ? "bf16" : "official"},
                              {"max_shard_size", options.shard_bytes},
                              {"config", config}};
  if (!options.tokenizer.empty()) {
    VX_ASSIGN(std::string tokenizer, ReadWholeFile(options.tokenizer, kMaxSmallFileBytes));
    job.small_files.push_back(FixedFile("tokenizer.json", std::move(tokenizer)));
  }
  job.small_files.push_back(FixedFile("config.json", config_text));
  job.small_files.push_back(PublishedIndex(job.files));
  return job;
}

}  // namespace vexil::convert
