#include "model/weights.h"

#include <fmt/format.h>

#include "model/weight_loader.h"

namespace vexil {
namespace {

// Asks the loader for the tensors of each part of the model (spec: checkpoint, 2).
class WeightReader {
 public:
  WeightReader(WeightLoader& loader, const ModelConfig& config) : load_(loader), c_(config) {}

  LayerWeights Layer(int64_t layer) {
    const std::string p = fmt::format("layers.{}.", layer);
    LayerWeights w;
    w.attn_norm = load_.AsF32(p + "attn_norm.weight", {c_.dim});
    w.ffn_norm = load_.AsF32(p + "ffn_norm.weight", {c_.dim});
    const int64_t mixes = (2 + c_.hc_mult) * c_.hc_mult;
    w.hc_attn = HyperConnection(p + "hc_attn_", mixes, 3);
    w.hc_ffn = HyperConnection(p + "hc_ffn_", mixes, 3);
    w.attn = Attention(p + "attn.", c_.compress_ratios[size_t(layer)]);
    w.moe = Moe(p + "ffn.", c_.is_hash_layer(layer));
    return w;
  }

  HyperConnectionWeights HyperConnection(const std::string& p, int64_t mixes, int64_t scales) {
    return {.fn = load_.AsF32(p + "fn", {mixes, c_.hc_mult * c_.dim}),
            .scale = load_.AsF32(p + "scale", {scales}),
            .base = load_.AsF32(p + "base", {mixes})};
  }

 private:
  AttentionWeights Attention(const std::string& p, int64_t ratio) {
    AttentionWeights w;
    w.wq_a = load_.Matrix(p + "wq_a", c_.q_lora_rank, c_.dim);
    w.q_norm = load_.AsF32(p + "q_norm.weight", {c_.q_lora_rank});
    w.wq_b = load_.Matrix(p + "wq_b", c_.num_heads * c_.head_dim, c_.q_lora_rank);
    w.wkv = load_.Matrix(p + "wkv", c_.head_dim, c_.dim);
    w.kv_norm = load_.AsF32(p + "kv_norm.weight", {c_.head_dim});
    w.sink = load_.AsF32(p + "attn_sink", {c_.num_heads});
    w.wo_a = OutputGroups(p + "wo_a");
    w.wo_b = load_.Matrix(p + "wo_b", c_.dim, c_.o_groups * c_.o_lora_rank);
    if (ratio != 0) w.compressor = Compressor(p + "compressor.", ratio, c_.head_dim);
    if (ratio == kOverlapRatio) {
      w.indexer = IndexerWeights{
          .wq_b = load_.Matrix(p + "indexer.wq_b", c_.index_heads * c_.index_head_dim, c_.q_lora_rank),
          .weights_proj = load_.Matrix(p + "indexer.weights_proj", c_.index_heads, c_.dim),
          .compressor = Compressor(p + "indexer.compressor.", ratio, c_.index_head_dim)};
    }
    return w;
  }

  // wo_a is one tensor [G*Ro, H*dh/G]; group g owns Ro consecutive rows.
  std::vector<QuantView> OutputGroups(const std::string& stem) {
    const int64_t rows = c_.o_lora_rank, cols = c_.num_heads * c_.head_dim / c_.o_groups;
    const QuantView all = load_.Matrix(stem, c_.o_groups * rows, cols);
    std::vector<QuantView> groups;
    if (!load_.ok()) return groups;
    for (int64_t g = 0; g < c_.o_groups; ++g) groups.push_back(load_.RowSlice(all, g * rows, (g + 1) * rows));
    return groups;
  }

  CompressorWeights Compressor(const std::string& p, int64_t ratio, int64_t d) {
    const int64_t width = ratio == kOverlapRatio ? 2 * d : d;
    return {.wkv = load_.Matrix(p + "wkv", width, c_.dim),
            .wgate = load_.Matrix(p + "wgate", width, c_.dim),
            .ape = load_.AsF32(p + "ape", {ratio, width}),
            .norm = load_.AsF32(p + "norm.weight", {d})};
  }

  MoeWeights Moe(const std::string& p, bool hash) {
    MoeWeights w;
    w.gate = load_.Matrix(p + "gate", c_.num_experts, c_.dim);
    if (hash) {
      w.tid2eid = load_.IndexTable(p + "gate.tid2eid", c_.vocab_size, c_.experts_per_token, c_.num_experts);
    } else {
      w.bias = load_.AsF32(p + "gate.bias", {c_.num_experts});
    }
    load_.Has(p + "experts.gate_up_proj") ? StackedExperts(p + "experts.", w) : Experts(p + "experts.", w);
    w.shared_w1 = load_.Matrix(p + "shared_experts.w1", c_.expert_dim, c_.dim);
    w.shared_w3 = load_.Matrix(p + "shared_experts.w3", c_.expert_dim, c_.dim);
    w.shared_w2 = load_.Matrix(p + "shared_experts.w2", c_.dim, c_.expert_dim);
    return w;
  }

  void Experts(const std::string& p, MoeWeights& w) {
    for (int64_t e = 0; e < c_.num_experts && load_.ok(); ++e) {
      const std::string expert = fmt::format("{}{}.", p, e);
      w.w1.push_back(load_.Matrix(expert + "w1", c_.expert_dim, c_.dim));
      w.w3.push_back(load_.Matrix(expert + "w3", c_.expert_dim, c_.dim));
      w.w2.push_back(load_.Matrix(expert + "w2", c_.dim, c_.expert_dim));
      ExpectOneFormat(expert, w);
    }
  }

  // A grouped product runs one kernel over all experts, so they share their format.
  void ExpectOneFormat(const std::string& expert, const MoeWeights& w) {
    if (!load_.ok()) return;
    const bool same = w.w1.back().data.dtype() == w.w1.front().data.dtype() &&
                      w.w3.back().data.dtype() == w.w3.front().data.dtype() &&
                      w.w2.back().data.dtype() == w.w2.front().data.dtype();
    if (!same) load_.Fail(InvalidArgument(fmt::format("{}w1, w3 or w2 has another format than those of expert 0", expert)));
  }

  void StackedExperts(const std::string& p, MoeWeights& w) {
    const int64_t f = c_.expert_dim, e_count = c_.num_experts;
    for (int64_t e = 0; e < e_count && load_.ok(); ++e) {
      w.w1.push_back(load_.StackedMatrix(p + "gate_up_proj", e_count, 2 * f, c_.dim, e, 0, f));
      w.w3.push_back(load_.StackedMatrix(p + "gate_up_proj", e_count, 2 * f, c_.dim, e, f, f));
      w.w2.push_back(load_.StackedMatrix(p + "down_proj", e_count, c_.dim, f, e, 0, c_.dim));
    }
  }

  WeightLoader& load_;
  const ModelConfig& c_;
};

}  // namespace

Result<ModelWeights> ModelWeights::Load(std::shared_ptr<const CheckpointFiles> files, const ModelConfig& c) {
  if (files->world() != 1) {
    return Unsupported(fmt::format("{}: found rank {} of {}, expected an unsharded checkpoint", files->path(), files->rank(), files->world()));
  }
  ModelWeights w;
  WeightLoader loader(*files, w.converted_);
  WeightReader reader(loader, c);
  w.embed = loader.Plain("embed.weight", {c.vocab_size, c.dim});
  w.head = QuantView(loader.Plain("head.weight", {c.vocab_size, c.dim}));
  w.norm = loader.AsF32("norm.weight", {c.dim});
  w.hc_head = reader.HyperConnection("hc_head_", c.hc_mult, 1);
  for (int64_t l = 0; l < c.num_layers && loader.ok(); ++l) w.layers.push_back(reader.Layer(l));
  std::vector<std::string> drafts;
  for (int64_t i = 0; i < c.num_draft_layers; ++i) drafts.push_back(fmt::format("mtp.{}.", i));
  if (loader.ok()) loader.RejectUnused(drafts);
  VX_TRY(loader.TakeStatus());
  w.stored_bytes = files->total_bytes();
  w.has_quantized_linears = loader.saw_quantized();
  w.files_ = std::move(files);
  return w;
}

}  // namespace vexil
