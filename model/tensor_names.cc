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

// GGUF's names of whole tensors (spec: checkpoint, 7), both ways: published, in the file.
constexpr Rule kGgufTop[] = {
    {"embed.weight", "token_embd.weight"},     {"head.weight", "output.weight"},
    {"norm.weight", "output_norm.weight"},     {"hc_head_fn", "output_hc_fn.weight"},
    {"hc_head_base", "output_hc_base.weight"}, {"hc_head_scale", "output_hc_scale.weight"},
};
// Behind "layers.N." and "blk.N.". The tensors of all experts are stacked: they have no published name, and
// "ffn.experts.w1.weight" and so on stand for one.
constexpr Rule kGgufLayer[] = {
    {"attn_norm.weight", "attn_norm.weight"},
    {"ffn_norm.weight", "ffn_norm.weight"},
    {"hc_attn_fn", "hc_attn_fn.weight"},
    {"hc_attn_base", "hc_attn_base.weight"},
    {"hc_attn_scale", "hc_attn_scale.weight"},
    {"hc_ffn_fn", "hc_ffn_fn.weight"},
    {"hc_ffn_base", "hc_ffn_base.weight"},
    {"hc_ffn_scale", "hc_ffn_scale.weight"},
    {"attn.attn_sink", "attn_sinks.weight"},
    {"attn.wq_a.weight", "attn_q_a.weight"},
    {"attn.q_norm.weight", "attn_q_a_norm.weight"},
    {"attn.wq_b.weight", "attn_q_b.weight"},
    {"attn.wkv.weight", "attn_kv.weight"},
    {"attn.kv_norm.weight", "attn_kv_a_norm.weight"},
    {"attn.wo_a.weight", "attn_output_a.weight"},
    {"attn.wo_b.weight", "attn_output_b.weight"},
    {"attn.compressor.ape", "attn_compressor_ape.weight"},
    {"attn.compressor.wkv.weight", "attn_compressor_kv.weight"},
    {"attn.compressor.wgate.weight", "attn_compressor_gate.weight"},
    {"attn.compressor.norm.weight", "attn_compressor_norm.weight"},
    {"attn.indexer.wq_b.weight", "indexer.attn_q_b.weight"},
    {"attn.indexer.weights_proj.weight", "indexer.proj.weight"},
    {"attn.indexer.compressor.ape", "indexer_compressor_ape.weight"},
    {"attn.indexer.compressor.wkv.weight", "indexer_compressor_kv.weight"},
    {"attn.indexer.compressor.wgate.weight", "indexer_compressor_gate.weight"},
    {"attn.indexer.compressor.norm.weight", "indexer_compressor_norm.weight"},
    {"ffn.gate.weight", "ffn_gate_inp.weight"},
    {"ffn.gate.bias", "exp_probs_b.bias"},
    {"ffn.gate.tid2eid", "ffn_gate_tid2eid.weight"},
    {"ffn.experts.w1.weight", "ffn_gate_exps.weight"},
    {"ffn.experts.w3.weight", "ffn_up_exps.weight"},
    {"ffn.experts.w2.weight", "ffn_down_exps.weight"},
    {"ffn.shared_experts.w1.weight", "ffn_gate_shexp.weight"},
    {"ffn.shared_experts.w3.weight", "ffn_up_shexp.weight"},
    {"ffn.shared_experts.w2.weight", "ffn_down_shexp.weight"},
};

// "layers.12." of a name that begins with it; empty otherwise.
std::string_view NumberedPrefix(std::string_view name, std::string_view word) {
  if (!name.starts_with(word)) return {};
  const size_t digits = name.find_first_not_of("0123456789", word.size());
  if (digits == word.size() || digits == std::string_view::npos || name[digits] != '.') return {};
  return name.substr(0, digits + 1);
}

template <size_t N>
std::optional<std::string_view> Lookup(const Rule (&rules)[N], std::string_view name, std::string_view Rule::*from,
                                       std::string_view Rule::*to) {
  for (const Rule& rule : rules) {
    if (rule.*from == name) return rule.*to;
  }
  return std::nullopt;
}

// `name` with the layer prefix and the rest translated from one naming to the other.
std::optional<std::string> Translate(std::string_view name, std::string_view prefix_from, std::string_view prefix_to,
                                     std::string_view Rule::*from, std::string_view Rule::*to) {
  if (const auto top = Lookup(kGgufTop, name, from, to)) return std::string(*top);
  const std::string_view prefix = NumberedPrefix(name, prefix_from);
  if (prefix.empty()) return std::nullopt;
  const auto rest = Lookup(kGgufLayer, name.substr(prefix.size()), from, to);
  if (!rest) return std::nullopt;
  return std::string(prefix_to).append(prefix.substr(prefix_from.size())).append(*rest);
}

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

std::optional<std::string> GgufTensorName(std::string_view published) {
  return Translate(published, "layers.", "blk.", &Rule::first, &Rule::second);
}

std::optional<std::string> PublishedNameOfGguf(std::string_view gguf) {
  return Translate(gguf, "blk.", "layers.", &Rule::second, &Rule::first);
}

std::string CanonicalTensorName(std::string_view name) {
  if (std::optional<std::string> published = PublishedNameOfGguf(name)) return *std::move(published);
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
  const std::string replaced =
      prefix.empty() ? ReplacePrefix(kTransformersTop, path) : ReplacePrefix(kTransformersPaths, path);
  return std::string(prefix) + MapComponents(replaced);
}

}  // namespace vexil
