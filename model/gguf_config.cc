#include "model/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"

namespace vexil {
namespace {

// member of ModelConfig, key of config.json, key in the file (behind "deepseek4."), type in the file
#define VX_GGUF_CONFIG(X)                                                                  \
  X(vocab_size, "vocab_size", "vocab_size", uint32_t)                                      \
  X(max_positions, "max_position_embeddings", "context_length", uint32_t)                  \
  X(dim, "hidden_size", "embedding_length", uint32_t)                                      \
  X(num_layers, "num_hidden_layers", "block_count", uint32_t)                              \
  X(num_hash_layers, "num_hash_layers", "hash_layer_count", uint32_t)                      \
  X(num_heads, "num_attention_heads", "attention.head_count", uint32_t)                    \
  X(head_dim, "head_dim", "attention.key_length", uint32_t)                                \
  X(rope_dim, "qk_rope_head_dim", "rope.dimension_count", uint32_t)                        \
  X(q_lora_rank, "q_lora_rank", "attention.q_lora_rank", uint32_t)                         \
  X(o_groups, "o_groups", "attention.output_group_count", uint32_t)                        \
  X(o_lora_rank, "o_lora_rank", "attention.output_lora_rank", uint32_t)                    \
  X(window, "sliding_window", "attention.sliding_window", uint32_t)                        \
  X(index_heads, "index_n_heads", "attention.indexer.head_count", uint32_t)                \
  X(index_head_dim, "index_head_dim", "attention.indexer.key_length", uint32_t)            \
  X(index_topk, "index_topk", "attention.indexer.top_k", uint32_t)                         \
  X(expert_dim, "moe_intermediate_size", "expert_feed_forward_length", uint32_t)           \
  X(num_experts, "n_routed_experts", "expert_count", uint32_t)                             \
  X(experts_per_token, "num_experts_per_tok", "expert_used_count", uint32_t)               \
  X(route_scale, "routed_scaling_factor", "expert_weights_scale", float)                   \
  X(hc_mult, "hc_mult", "hyper_connection.count", uint32_t)                                \
  X(sinkhorn_iters, "hc_sinkhorn_iters", "hyper_connection.sinkhorn_iterations", uint32_t) \
  X(hc_eps, "hc_eps", "hyper_connection.epsilon", float)                                   \
  X(norm_eps, "rms_norm_eps", "attention.layer_norm_rms_epsilon", float)                   \
  X(rope_theta, "rope_theta", "rope.freq_base", float)                                     \
  X(compress_rope_theta, "compress_rope_theta", "attention.compress_rope_freq_base", float)

// The same for rope_scaling, which a file may leave out as a whole.
#define VX_GGUF_ROPE_SCALING(X)                                                                            \
  X(factor, "factor", "rope.scaling.factor", float)                                                        \
  X(original_length, "original_max_position_embeddings", "rope.scaling.original_context_length", uint32_t) \
  X(beta_fast, "beta_fast", "rope.scaling.yarn_beta_fast", float)                                          \
  X(beta_slow, "beta_slow", "rope.scaling.yarn_beta_slow", float)

constexpr std::string_view kRatios = "attention.compress_ratios";
constexpr std::string_view kClampRouted = "swiglu_clamp_exp";
constexpr std::string_view kClampShared = "swiglu_clamp_shexp";
constexpr std::string_view kScalingType = "rope.scaling.type";
constexpr std::string_view kBos = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEos = "tokenizer.ggml.eos_token_id";
// llama.cpp's code for sqrt(softplus(x)).
constexpr int64_t kSqrtSoftplus = 4;

std::string KeyOf(std::string_view key) {
  return key.starts_with("tokenizer.") ? std::string(key) : fmt::format("{}.{}", kGgufArchitecture, key);
}

// Reads keys of one file; keeps the first error.
class MetadataReader {
 public:
  explicit MetadataReader(const GgufFile& file) : file_(file) {}

  const GgufValue* Find(std::string_view key) const { return file_.FindValue(KeyOf(key)); }

  // A number as its text, so that a float comes back as it was written in decimals.
  Json Number(std::string_view key) {
    const GgufValue* v = Require(key);
    if (v == nullptr) return {};
    const std::optional<double> d = v->Real();
    if (!d || !std::isfinite(*d)) return Fail(key, *v, "a number");
    return Json(Json::Number{v->NumberText()});
  }

  Json Ints(std::string_view key) {
    const GgufValue* v = Require(key);
    if (v == nullptr) return {};
    const auto list = v->Ints();
    if (!list) return Fail(key, *v, "an array of integers");
    return Json(Json::Array(list->begin(), list->end()));
  }

  // The one number that all layers share, stored alone or for each. 0 when there is none.
  double Shared(std::string_view key) {
    const GgufValue* v = Find(key);
    if (v == nullptr) return 0;
    if (const auto d = v->Real()) return *d;
    const auto list = v->Reals();
    const bool same =
        list && !list->empty() && std::ranges::all_of(*list, [&](double d) { return d == list->front(); });
    if (!same) return Fail(key, *v, "one number for all layers"), 0;
    return list->front();
  }

  void RequireInt(std::string_view key, int64_t only) {
    const GgufValue* v = Find(key);
    if (v != nullptr && v->Int() != only) Fail(key, *v, fmt::format("{} (nothing else is supported)", only));
  }
  void RequireTrue(std::string_view key) {
    const GgufValue* v = Find(key);
    if (v != nullptr && v->Bool() != true) Fail(key, *v, "true (nothing else is supported)");
  }

  Json Fail(std::string_view key, const GgufValue& found, std::string_view expected) {
    if (status_.ok())
      status_ = InvalidArgument(
          fmt::format("{}: {}: found {}, expected {}", file_.path(), KeyOf(key), found.Describe(), expected));
    return {};
  }
  Status TakeStatus() { return std::move(status_); }

 private:
  const GgufValue* Require(std::string_view key) {
    const GgufValue* v = Find(key);
    if (v == nullptr && status_.ok())
      status_ = InvalidArgument(fmt::format("{}: metadata {} is missing", file_.path(), KeyOf(key)));
    return v;
  }

  const GgufFile& file_;
  Status status_;
};

Json RopeScalingJson(MetadataReader& r) {
  Json scaling;
  const GgufValue* type = r.Find(kScalingType);
  if (type == nullptr || type->Text() == "none") return scaling;
  if (type->Text() != "yarn") return r.Fail(kScalingType, *type, "\"yarn\" or \"none\"");
  scaling.Set("type", "yarn");
#define X(member, json, gguf, t) scaling.Set(json, r.Number(gguf));
  VX_GGUF_ROPE_SCALING(X)
#undef X
  return scaling;
}

Status CheckArchitecture(const GgufFile& file) {
  constexpr std::string_view kKey = "general.architecture";
  const GgufValue* v = file.FindValue(kKey);
  if (v != nullptr && v->Text() == kGgufArchitecture) return {};
  return InvalidArgument(fmt::format("{}: {}: found {}, expected \"{}\"", file.path(), kKey,
                                     v ? v->Describe() : "no such key", kGgufArchitecture));
}

}  // namespace

Result<std::string> GgufConfigJson(const GgufFile& file) {
  VX_TRY(CheckArchitecture(file));
  MetadataReader r(file);
  Json root;
  root.Set("architectures", Json(Json::Array{Json("DeepseekV4ForCausalLM")}));
  root.Set("model_type", "deepseek_v4");
  root.Set("hidden_act", "silu");
  root.Set("scoring_func", "sqrtsoftplus");
  root.Set("topk_method", "noaux_tc");
  root.Set("norm_topk_prob", true);
  root.Set("tie_word_embeddings", false);
  root.Set("num_key_value_heads", 1);
  root.Set("n_shared_experts", 1);
  root.Set("num_nextn_predict_layers", 0);
#define X(member, json, gguf, type) root.Set(json, r.Number(gguf));
  VX_GGUF_CONFIG(X)
#undef X
  root.Set("compress_ratios", r.Ints(kRatios));
  root.Set("swiglu_limit", r.Shared(kClampRouted));
  if (const GgufValue* shared = r.Find(kClampShared); shared && r.Shared(kClampShared) != r.Shared(kClampRouted)) {
    r.Fail(kClampShared, *shared, "the numbers of swiglu_clamp_exp");
  }
  if (Json scaling = RopeScalingJson(r); !scaling.is_null()) root.Set("rope_scaling", std::move(scaling));
  if (r.Find(kBos)) root.Set("bos_token_id", r.Number(kBos));
  if (r.Find(kEos)) root.Set("eos_token_id", r.Number(kEos));
  r.RequireInt("attention.head_count_kv", 1);
  r.RequireInt("expert_shared_count", 1);
  r.RequireInt("expert_gating_func", kSqrtSoftplus);
  r.RequireTrue("expert_weights_norm");
  VX_TRY(r.TakeStatus());
  return root.ToText(1) + "\n";
}

Result<ModelConfig> ReadGgufConfig(const GgufFile& file) {
  VX_ASSIGN(const std::string json, GgufConfigJson(file));
  VX_ASSIGN(ModelConfig config, ModelConfig::Parse(json, file.path()));
  // More ratios than layers stand for draft layers whose tensors such files do not have.
  config.num_draft_layers = 0;
  return config;
}

GgufMetadata GgufConfigMetadata(const ModelConfig& c) {
  GgufMetadata m = {{"general.architecture", std::string(kGgufArchitecture)}, {"general.type", std::string("model")}};
  const auto add = [&](std::string_view key, GgufScalarOrArray v) { m.emplace_back(KeyOf(key), std::move(v)); };
#define X(member, json, gguf, type) add(gguf, type(c.member));
  VX_GGUF_CONFIG(X)
#undef X
  add("attention.value_length", uint32_t(c.head_dim));
  add("attention.head_count_kv", uint32_t{1});
  add("expert_shared_count", uint32_t{1});
  add("expert_gating_func", uint32_t{kSqrtSoftplus});
  add("expert_weights_norm", true);
  add(kRatios, std::vector<int32_t>(c.compress_ratios.begin(), c.compress_ratios.end()));
  const std::vector<float> clamps(size_t(c.num_layers), float(c.swiglu_limit));
  add(kClampRouted, clamps);
  add(kClampShared, clamps);
  if (c.rope_scaling.original_length != 0) {
    add(kScalingType, std::string("yarn"));
#define X(member, json, gguf, type) add(gguf, type(c.rope_scaling.member));
    VX_GGUF_ROPE_SCALING(X)
#undef X
  }
  add(kBos, uint32_t(c.bos_id));
  add(kEos, uint32_t(c.eos_id));
  return m;
}

}  // namespace vexil
