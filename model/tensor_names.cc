#include "model/tensor_names.h"

#include <utility>

namespace vexil {
namespace {

using Rule = std::pair<std::string_view, std::string_view>;

// transformers' names behind "layers.N.", without ".weight" and the like (spec: checkpoint, 6). Longest first
// where one is the beginning of another.
constexpr Rule kTransformersPaths[] = {
    {"attn_hc.", "hc_attn_"},
    {"ffn_hc.", "hc_ffn_"},
    {"self_attn.compressor.indexer.scorer.weights_proj.", "attn.indexer.weights_proj."},
    {"self_attn.compressor.indexer.weights_proj.", "attn.indexer.weights_proj."},
    {"self_attn.compressor.indexer.q_b_proj.", "attn.indexer.wq_b."},
    {"self_attn.compressor.indexer.kv_proj.", "attn.indexer.compressor.wkv."},
    {"self_attn.compressor.indexer.gate_proj.", "attn.indexer.compressor.wgate."},
    {"self_attn.compressor.indexer.kv_norm.", "attn.indexer.compressor.norm."},
    {"self_attn.compressor.indexer.position_bias", "attn.indexer.compressor.ape"},
    {"self_attn.compressor.kv_proj.", "attn.compressor.wkv."},
    {"self_attn.compressor.gate_proj.", "attn.compressor.wgate."},
    {"self_attn.compressor.kv_norm.", "attn.compressor.norm."},
    {"self_attn.compressor.position_bias", "attn.compressor.ape"},
    {"self_attn.sinks", "attn.attn_sink"},
    {"self_attn.q_a_norm.", "attn.q_norm."},
    {"self_attn.kv_proj.", "attn.wkv."},
    {"self_attn.o_a_proj.", "attn.wo_a."},
    {"self_attn.o_b_proj.", "attn.wo_b."},
};
constexpr Rule kTransformersTop[] = {
    {"hc_head.hc_fn", "hc_head_fn"},
    {"hc_head.hc_base", "hc_head_base"},
    {"hc_head.hc_scale", "hc_head_scale"},
};

// One path component each (spec: checkpoint, 4.1).
constexpr Rule kComponents[] = {
    {"self_attn", "attn"},
    {"mlp", "ffn"},
    {"weight_scale_inv", "scale"},
    {"e_score_correction_bias", "bias"},
    {"embed_tokens", "embed"},
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"q_a_proj", "wq_a"},
    {"q_a_layernorm", "q_norm"},
    {"q_b_proj", "wq_b"},
    {"kv_a_layernorm", "kv_norm"},
    {"gate_proj", "w1"},
    {"down_proj", "w2"},
    {"up_proj", "w3"},
    {"lm_head", "head"},
};

template <size_t N>
std::string ReplacePrefix(const Rule (&rules)[N], std::string_view path) {
  for (const auto& [from, to] : rules) {
    if (path.starts_with(from)) return std::string(to).append(path.substr(from.size()));
  }
  return std::string(path);
}

std::string MapComponents(std::string_view path) {
  std::string out;
  while (true) {
    const size_t dot = path.find('.');
    const std::string_view part = path.substr(0, dot);
    std::string_view mapped = part;
    for (const auto& [from, to] : kComponents) {
      if (part == from) mapped = to;
    }
    out += mapped;
    if (dot == std::string_view::npos) return out;
    out += '.';
    path.remove_prefix(dot + 1);
  }
}

}  // namespace

std::string CanonicalTensorName(std::string_view name) {
  if (name.starts_with("model.")) name.remove_prefix(6);
  std::string_view prefix;
  if (name.starts_with("layers.")) {
    const size_t dot = name.find('.', 7);
    if (dot != std::string_view::npos) prefix = name.substr(0, dot + 1);
  }
  const std::string_view path = name.substr(prefix.size());
  const std::string_view kExperts = "mlp.experts.";
  if (path == "mlp.experts.gate_up_proj" || path == "mlp.experts.down_proj") {
    return std::string(prefix).append("ffn.experts.").append(path.substr(kExperts.size()));
  }
  const std::string replaced = prefix.empty() ? ReplacePrefix(kTransformersTop, path) : ReplacePrefix(kTransformersPaths, path);
  return std::string(prefix) + MapComponents(replaced);
}

}  // namespace vexil
