#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/json.h"
#include "io/file.h"
#include "model/config_reader.h"

namespace vexil {
namespace {

// Bounds that keep every product of sizes far inside int64 and every allocation believable.
constexpr int64_t kMaxWidth = int64_t(1) << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxPositions = int64_t(1) << 30;
constexpr int64_t kMaxStreams = 8;

// What a size is called in the two dialects of key names.
struct Keys {
  std::string_view vocab, dim, layers, hash_layers, draft_layers, heads, head_dim, rope_dim, q_rank, o_groups, o_rank,
      window, index_heads, index_dim, index_topk, expert_dim, experts, shared_experts, active, route_scale, score_func;
};
constexpr Keys kHfKeys = {"vocab_size",
                          "hidden_size",
                          "num_hidden_layers",
                          "num_hash_layers",
                          "num_nextn_predict_layers",
                          "num_attention_heads",
                          "head_dim",
                          "qk_rope_head_dim",
                          "q_lora_rank",
                          "o_groups",
                          "o_lora_rank",
                          "sliding_window",
                          "index_n_heads",
                          "index_head_dim",
                          "index_topk",
                          "moe_intermediate_size",
                          "n_routed_experts",
                          "n_shared_experts",
                          "num_experts_per_tok",
                          "routed_scaling_factor",
                          "scoring_func"};
constexpr Keys kInferenceKeys = {"vocab_size",
                                 "dim",
                                 "n_layers",
                                 "n_hash_layers",
                                 "n_mtp_layers",
                                 "n_heads",
                                 "head_dim",
                                 "rope_head_dim",
                                 "q_lora_rank",
                                 "o_groups",
                                 "o_lora_rank",
                                 "window_size",
                                 "index_n_heads",
                                 "index_head_dim",
                                 "index_topk",
                                 "moe_inter_dim",
                                 "n_routed_experts",
                                 "n_shared_experts",
                                 "n_activated_experts",
                                 "route_scale",
                                 "score_func"};

void ReadSizes(ConfigReader& r, const Keys& k, ModelConfig& c) {
  c.vocab_size = r.Int(k.vocab, 1, int64_t(1) << 24);
  c.dim = r.Int(k.dim, 1, kMaxWidth);
  c.num_layers = r.Int(k.layers, 1, kMaxLayers);
  c.num_heads = r.Int(k.heads, 1, 65536);
  c.head_dim = r.Int(k.head_dim, 2, 65536);
  c.rope_dim = r.Int(k.rope_dim, 2, 65536);
  c.q_lora_rank = r.Int(k.q_rank, 1, kMaxWidth);
  c.o_groups = r.Int(k.o_groups, 1, 65536);
  c.o_lora_rank = r.Int(k.o_rank, 1, kMaxWidth);
  c.window = r.Int(k.window, 1, kMaxWidth);
  c.expert_dim = r.Int(k.expert_dim, 1, kMaxWidth);
  c.num_experts = r.Int(k.experts, 1, 65536);
  c.experts_per_token = r.Int(k.active, 1, 4096);
  c.route_scale = r.Real(k.route_scale, 1e-9, 1e9, 1.0);
  r.Int(k.shared_experts, 1, 1, 1);
  r.RequireText(k.score_func, "sqrtsoftplus");
  c.index_heads = r.Int(k.index_heads, 1, 65536, 64);
  c.index_head_dim = r.Int(k.index_dim, 2, 65536, 128);
  c.index_topk = r.Int(k.index_topk, 1, kMaxWidth, 512);
  c.swiglu_limit = r.Real("swiglu_limit", 0, 1e9, 0.0);
  c.hc_mult = r.Int("hc_mult", 1, kMaxStreams, 4);
  c.sinkhorn_iters = r.Int("hc_sinkhorn_iters", 1, 10000, 20);
  c.hc_eps = r.Real("hc_eps", 0, 1, 1e-6);
}

void CheckSizes(ConfigReader& r, const Keys& k, const ModelConfig& c) {
  r.Require(c.rope_dim % 2 == 0 && c.rope_dim <= c.head_dim, k.rope_dim,
            fmt::format("an even number up to {} ({})", k.head_dim, c.head_dim));
  r.Require(c.num_heads % c.o_groups == 0, k.o_groups, fmt::format("a divisor of {} ({})", k.heads, c.num_heads));
  r.Require(c.experts_per_token <= c.num_experts, k.active, fmt::format("at most {} ({})", k.experts, c.num_experts));
  if (c.has_ratio(kOverlapRatio)) {
    r.Require((c.index_head_dim & (c.index_head_dim - 1)) == 0, k.index_dim, "a power of two (Hadamard rotation)");
    r.Require(c.rope_dim <= c.index_head_dim, k.index_dim, fmt::format("at least {} ({})", k.rope_dim, c.rope_dim));
  }
}

// One ratio per layer. Entries behind the last layer belong to speculative blocks.
void ReadRatioList(ConfigReader& r, ModelConfig& c) {
  const Json::Array* list = r.Find("compress_ratios") ? r.Find("compress_ratios")->array() : nullptr;
  if (list == nullptr || int64_t(list->size()) < c.num_layers) {
    const std::string found = list ? fmt::format("a list of {} entries", list->size()) : std::string("no list");
    r.Fail("compress_ratios", found, fmt::format("a list with an entry for each of the {} layers", c.num_layers));
    return;
  }
  for (int64_t i = 0; i < int64_t(list->size()); ++i) {
    const std::optional<int64_t> v = (*list)[size_t(i)].Int();
    // A power of two divides a page of 256 tokens, the unit in which compressed entries are stored.
    const bool ok = v && (*v == 0 || (*v > 1 && *v <= 256 && 256 % *v == 0));
    if (!ok) {
      r.Fail(fmt::format("compress_ratios[{}]", i), (*list)[size_t(i)].ToText(), "0 or a power of two from 2 to 256");
      return;
    }
    if (i < c.num_layers) c.compress_ratios.push_back(*v);
  }
  const int64_t surplus = int64_t(list->size()) - c.num_layers;
  c.num_draft_layers = std::max(c.num_draft_layers, std::min<int64_t>(surplus, 16));
}

// transformers: names of layer kinds plus a ratio per kind.
void ReadLayerTypes(ConfigReader& r, ModelConfig& c) {
  const Json::Array* list = r.Find("layer_types")->array();
  if (list == nullptr || int64_t(list->size()) != c.num_layers) {
    r.Fail("layer_types", list ? fmt::format("{} entries", list->size()) : "no list",
           fmt::format("one entry for each of the {} layers", c.num_layers));
    return;
  }
  const Json* rates = r.Object("compress_rates");
  if (!r.ok()) return;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string* kind = (*list)[i].string();
    if (kind && *kind == "sliding_attention") {
      c.compress_ratios.push_back(0);
      continue;
    }
    const bool csa = kind && *kind == "compressed_sparse_attention",
               hca = kind && *kind == "heavily_compressed_attention";
    if (!csa && !hca) {
      r.Fail(fmt::format("layer_types[{}]", i), (*list)[i].ToText(),
             "sliding_attention, compressed_sparse_attention or heavily_compressed_attention");
      return;
    }
    const Json* rate = rates ? rates->Find(*kind) : nullptr;
    const int64_t ratio = rate ? rate->Int().value_or(-1) : (csa ? 4 : 128);
    const bool ok =
        csa ? ratio == kOverlapRatio : ratio > 1 && ratio <= 256 && 256 % ratio == 0 && ratio != kOverlapRatio;
    if (!ok) {
      r.Fail("compress_rates." + *kind, rate ? rate->ToText() : "nothing",
             csa ? "4" : "a power of two from 2 to 256 other than 4");
      return;
    }
    c.compress_ratios.push_back(ratio);
  }
}

// From whichever list is there. Of both, the ratios count, and the kinds of layers have to be theirs.
void ReadRatios(ConfigReader& r, ModelConfig& c) {
  const bool kinds = r.Has("layer_types"), ratios = r.Has("compress_ratios") || !kinds;
  if (ratios) ReadRatioList(r, c);
  if (!kinds || !r.ok()) return;
  ModelConfig by_kind;
  by_kind.num_layers = c.num_layers;
  ReadLayerTypes(r, by_kind);
  if (!ratios) {
    c.compress_ratios = by_kind.compress_ratios;
    return;
  }
  const auto kind_of = [](int64_t ratio) { return ratio == 0 ? 0 : ratio == kOverlapRatio ? 1 : 2; };
  const bool same = std::ranges::equal(c.compress_ratios, by_kind.compress_ratios, {}, kind_of, kind_of);
  if (r.ok()) r.Require(same, "layer_types", "the kinds of layers that compress_ratios gives");
}

void ReadHashLayers(ConfigReader& r, const Keys& k, ModelConfig& c) {
  if (!r.Has("mlp_layer_types")) {
    c.num_hash_layers = r.Int(k.hash_layers, 0, c.num_layers, 0);
    return;
  }
  const Json::Array* list = r.Find("mlp_layer_types")->array();
  if (list == nullptr || int64_t(list->size()) != c.num_layers) {
    r.Fail("mlp_layer_types", list ? fmt::format("{} entries", list->size()) : "no list",
           fmt::format("one entry for each of the {} layers", c.num_layers));
    return;
  }
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string* kind = (*list)[i].string();
    const bool hash = kind && *kind == "hash_moe";
    const bool prefix = !hash || c.num_hash_layers == int64_t(i);
    if (!kind || (!hash && *kind != "moe") || !prefix) {
      r.Fail(fmt::format("mlp_layer_types[{}]", i), (*list)[i].ToText(),
             "\"hash_moe\" for the first layers, then \"moe\"");
      return;
    }
    c.num_hash_layers += hash;
  }
  if (r.Has(k.hash_layers)) {
    r.Require(r.Int(k.hash_layers, 0, c.num_layers) == c.num_hash_layers, k.hash_layers,
              fmt::format("{}, as in mlp_layer_types", c.num_hash_layers));
  }
}

// `missing_factor`: what a missing factor means; none: it is an error, as is a missing length.
RopeScaling ReadYarn(ConfigReader& r, std::string_view factor_key, std::string_view length_key,
                     std::optional<double> missing_factor) {
  RopeScaling s;
  s.factor = r.Real(factor_key, 1, 1e6, missing_factor);
  s.original_length = r.Int(length_key, 0, kMaxPositions, missing_factor ? std::optional<int64_t>(0) : std::nullopt);
  s.beta_fast = r.Real("beta_fast", 1e-6, 1e6, 32.0);
  s.beta_slow = r.Real("beta_slow", 1e-6, 1e6, 1.0);
  r.Require(s.beta_fast >= s.beta_slow, "beta_fast", fmt::format("at least beta_slow ({})", s.beta_slow));
  return s;
}

// rope_scaling of the published config, or rope_parameters {main, compress} of transformers.
Status ReadHfRope(ConfigReader& r, std::string_view where, ModelConfig& c) {
  c.rope_theta = r.Real("rope_theta", 1, 1e12, 10000.0);
  c.compress_rope_theta = r.Real("compress_rope_theta", 1, 1e12, 160000.0);
  const Json* const scaling = r.Object("rope_scaling");
  const Json* const parameters = r.Object("rope_parameters");
  VX_TRY(r.TakeStatus());
  if (scaling != nullptr) {
    ConfigReader s(*scaling, fmt::format("{}: rope_scaling", where));
    if (s.Has("rope_type")) s.RequireText("rope_type", "yarn");
    s.RequireText("type", "yarn");
    c.rope_scaling = ReadYarn(s, "factor", "original_max_position_embeddings", {});
    return s.TakeStatus();
  }
  if (parameters == nullptr) return {};
  ConfigReader p(*parameters, fmt::format("{}: rope_parameters", where));
  const Json* const main = p.Object("main");
  const Json* const compress = p.Object("compress");
  VX_TRY(p.TakeStatus());
  if (main != nullptr) {
    ConfigReader m(*main, fmt::format("{}: rope_parameters.main", where));
    m.RequireText("rope_type", "default");
    c.rope_theta = m.Real("rope_theta", 1, 1e12, c.rope_theta);
    VX_TRY(m.TakeStatus());
  }
  if (compress != nullptr) {
    ConfigReader m(*compress, fmt::format("{}: rope_parameters.compress", where));
    c.compress_rope_theta = m.Real("rope_theta", 1, 1e12, c.compress_rope_theta);
    if (m.Text("rope_type", "default") != "default") {
      m.RequireText("rope_type", "yarn");
      m.Require(m.Real("attention_factor", 0, 1e6, 1.0) == 1.0, "attention_factor", "1 (nothing else is supported)");
      c.rope_scaling = ReadYarn(m, "factor", "original_max_position_embeddings", {});
    }
    VX_TRY(m.TakeStatus());
  }
  return {};
}

Status ReadHf(const Json& root, ConfigReader& r, std::string_view where, ModelConfig& c) {
  const Keys& k = kHfKeys;
  if (r.Has("model_type")) r.RequireText("model_type", "deepseek_v4");
  r.RequireText("hidden_act", "silu");
  if (r.Has("topk_method")) r.RequireText("topk_method", "noaux_tc");
  r.RequireBool("norm_topk_prob", true);
  r.RequireBool("tie_word_embeddings", false);
  r.RequireBool("attention_bias", false);
  r.RequireBool("mlp_bias", false);
  r.Int("num_key_value_heads", 1, 1, 1);
  ReadSizes(r, k, c);
  c.norm_eps = r.Real("rms_norm_eps", 0, 1, 1e-6);
  c.num_draft_layers = r.Int(k.draft_layers, 0, 16, 0);
  c.max_positions = r.Int("max_position_embeddings", 1, kMaxPositions, kMaxPositions);
  c.bos_id = r.Int("bos_token_id", 0, c.vocab_size - 1, 0);
  c.eos_id = r.Int("eos_token_id", 0, c.vocab_size - 1, 1);
  c.quantized = r.Has("quantization_config");
  VX_TRY(r.TakeStatus());
  ReadRatios(r, c);
  ReadHashLayers(r, k, c);
  VX_TRY(r.TakeStatus());
  VX_TRY(ReadHfRope(r, where, c));
  if (c.quantized) {
    const Json& q = *root.Find("quantization_config");
    if (!q.is_object())
      return InvalidArgument(fmt::format("{}: quantization_config: found {}, expected an object", where, q.TypeName()));
    ConfigReader qr(q, fmt::format("{}: quantization_config", where));
    if (qr.Text("quant_method", "fp8") == "fp8") {
      if (qr.Has("fmt")) qr.RequireText("fmt", "e4m3");
      if (qr.Has("scale_fmt")) qr.RequireText("scale_fmt", "ue8m0");
      const Json* block = qr.Find("weight_block_size");
      qr.Require(block == nullptr || block->ToText() == "[128,128]", "weight_block_size", "[128, 128]");
    }
    VX_TRY(qr.TakeStatus());
  }
  CheckSizes(r, k, c);
  return r.TakeStatus();
}

Status ReadInference(ConfigReader& r, ModelConfig& c) {
  const Keys& k = kInferenceKeys;
  ReadSizes(r, k, c);
  c.norm_eps = r.Real("norm_eps", 0, 1, 1e-6);
  c.num_draft_layers = r.Int(k.draft_layers, 0, 16, 1);
  c.num_hash_layers = r.Int(k.hash_layers, 0, c.num_layers, 0);
  c.rope_theta = r.Real("rope_theta", 1, 1e12, 10000.0);
  c.compress_rope_theta = r.Real("compress_rope_theta", 1, 1e12, 40000.0);
  c.rope_scaling = ReadYarn(r, "rope_factor", "original_seq_len", 40.0);
  c.max_positions = kMaxPositions;
  const std::string dtype = r.Text("dtype", "fp8");
  r.Require(dtype == "fp8" || dtype == "bf16", "dtype", "\"fp8\" or \"bf16\"");
  if (r.Has("scale_fmt")) r.RequireText("scale_fmt", "ue8m0");
  c.quantized = dtype == "fp8";
  VX_TRY(r.TakeStatus());
  ReadRatioList(r, c);
  VX_TRY(r.TakeStatus());
  CheckSizes(r, k, c);
  return r.TakeStatus();
}

}  // namespace

bool ModelConfig::has_ratio(int64_t ratio) const {
  return std::find(compress_ratios.begin(), compress_ratios.end(), ratio) != compress_ratios.end();
}

Result<ModelConfig> ModelConfig::Parse(std::string_view json, std::string_view name) {
  Json::ParseOptions options;
  options.allow_nan = true;  // so that the key is named whose value it is
  Result<Json> parsed = Json::Parse(json, options);
  if (!parsed.ok()) return std::move(parsed).TakeError().Prefix(name);
  const Json& root = *parsed;
  if (!root.is_object()) return InvalidArgument(fmt::format("{}: found {}, expected an object", name, root.TypeName()));
  ModelConfig c;
  ConfigReader r(root, std::string(name));
  if (r.Has("hidden_size")) {
    VX_TRY(ReadHf(root, r, name, c));
  } else if (r.Has("dim")) {
    VX_TRY(ReadInference(r, c));
  } else {
    return InvalidArgument(
        fmt::format("{}: found neither hidden_size nor dim, expected a DeepSeek-V4 configuration", name));
  }
  return c;
}

Result<ModelConfig> ModelConfig::ReadFile(const std::string& path) {
  constexpr int64_t kMaxBytes = int64_t(16) << 20;
  VX_ASSIGN(std::string text, ReadWholeFile(path, kMaxBytes));
  return Parse(text, path);
}

}  // namespace vexil
