#include "model/tensor_inventory.h"

#include <fmt/format.h>

#include <utility>

namespace vexil {
namespace {

class InventoryWriter {
 public:
  InventoryWriter(const ModelConfig& config, const InventoryOptions& options) : c_(config), options_(options) {}

  std::vector<TensorSpec> Write() {
    Add("embed.weight", TensorRole::kEmbedding, {c_.vocab_size, c_.dim});
    Add("head.weight", TensorRole::kEmbedding, {c_.vocab_size, c_.dim});
    Add("norm.weight", TensorRole::kNorm, {c_.dim});
    HyperConnection("hc_head_", c_.hc_mult, 1);
    for (int64_t l = 0; l < c_.num_layers; ++l) {
      Block(fmt::format("layers.{}.", l), c_.compress_ratios[size_t(l)], c_.is_hash_layer(l));
    }
    for (int64_t i = 0; i < options_.drafts.blocks; ++i) Draft(i);
    return std::move(specs_);
  }

 private:
  void Add(std::string name, TensorRole role, Dims dims) { specs_.push_back({std::move(name), role, dims}); }

  // A block of the backbone, or a speculative one.
  void Block(const std::string& p, int64_t ratio, bool hash) {
    Add(p + "attn_norm.weight", TensorRole::kNorm, {c_.dim});
    Add(p + "ffn_norm.weight", TensorRole::kNorm, {c_.dim});
    const int64_t mixes = (2 + c_.hc_mult) * c_.hc_mult;
    HyperConnection(p + "hc_attn_", mixes, 3);
    HyperConnection(p + "hc_ffn_", mixes, 3);
    Attention(p + "attn.", ratio);
    Moe(p + "ffn.", hash);
  }

  void HyperConnection(const std::string& p, int64_t mixes, int64_t scales) {
    Add(p + "fn", TensorRole::kHyperFn, {mixes, c_.hc_mult * c_.dim});
    Add(p + "base", TensorRole::kHyperBase, {mixes});
    Add(p + "scale", TensorRole::kHyperScale, {scales});
  }

  void Attention(const std::string& p, int64_t ratio) {
    Add(p + "attn_sink", TensorRole::kSink, {c_.num_heads});
    Add(p + "wq_a.weight", TensorRole::kLinear, {c_.q_lora_rank, c_.dim});
    Add(p + "q_norm.weight", TensorRole::kNorm, {c_.q_lora_rank});
    Add(p + "wq_b.weight", TensorRole::kLinear, {c_.num_heads * c_.head_dim, c_.q_lora_rank});
    Add(p + "wkv.weight", TensorRole::kLinear, {c_.head_dim, c_.dim});
    Add(p + "kv_norm.weight", TensorRole::kNorm, {c_.head_dim});
    Add(p + "wo_a.weight", TensorRole::kLinear,
        {c_.o_groups * c_.o_lora_rank, c_.num_heads * c_.head_dim / c_.o_groups});
    Add(p + "wo_b.weight", TensorRole::kLinear, {c_.dim, c_.o_groups * c_.o_lora_rank});
    if (ratio != 0) Compressor(p + "compressor.", ratio, c_.head_dim);
    if (ratio != kOverlapRatio) return;
    Add(p + "indexer.wq_b.weight", TensorRole::kLinear, {c_.index_heads * c_.index_head_dim, c_.q_lora_rank});
    Add(p + "indexer.weights_proj.weight", TensorRole::kMatrix, {c_.index_heads, c_.dim});
    Compressor(p + "indexer.compressor.", ratio, c_.index_head_dim);
  }

  void Compressor(const std::string& p, int64_t ratio, int64_t d) {
    const int64_t width = ratio == kOverlapRatio ? 2 * d : d;
    Add(p + "ape", TensorRole::kPosition, {ratio, width});
    Add(p + "wkv.weight", TensorRole::kMatrix, {width, c_.dim});
    Add(p + "wgate.weight", TensorRole::kMatrix, {width, c_.dim});
    Add(p + "norm.weight", TensorRole::kNorm, {d});
  }

  void Moe(const std::string& p, bool hash) {
    Add(p + "gate.weight", TensorRole::kMatrix, {c_.num_experts, c_.dim});
    if (hash) {
      Add(p + "gate.tid2eid", TensorRole::kTable, {c_.vocab_size, c_.experts_per_token});
    } else {
      Add(p + "gate.bias", TensorRole::kBias, {c_.num_experts});
    }
    if (options_.stacked_experts) {
      Add(p + "experts.gate_up_proj", TensorRole::kExpert, {c_.num_experts, 2 * c_.expert_dim, c_.dim});
      Add(p + "experts.down_proj", TensorRole::kExpert, {c_.num_experts, c_.dim, c_.expert_dim});
    } else {
      for (int64_t e = 0; e < c_.num_experts; ++e) Expert(fmt::format("{}experts.{}.", p, e), TensorRole::kExpert);
    }
    Expert(p + "shared_experts.", TensorRole::kLinear);
  }

  void Expert(const std::string& p, TensorRole role) {
    Add(p + "w1.weight", role, {c_.expert_dim, c_.dim});
    Add(p + "w2.weight", role, {c_.dim, c_.expert_dim});
    Add(p + "w3.weight", role, {c_.expert_dim, c_.dim});
  }

  void Draft(int64_t i) {
    const DraftLayout& d = options_.drafts;
    const std::string p = fmt::format("mtp.{}.", i);
    Block(p, 0, false);
    const bool parallel = d.kind == DraftLayout::Kind::kParallel;
    if (!parallel) {
      Add(p + "e_proj.weight", TensorRole::kLinear, {c_.dim, c_.dim});
      Add(p + "h_proj.weight", TensorRole::kLinear, {c_.dim, c_.dim});
      Add(p + "enorm.weight", TensorRole::kNorm, {c_.dim});
      Add(p + "hnorm.weight", TensorRole::kNorm, {c_.dim});
    } else if (i == 0) {
      Add(p + "main_proj.weight", TensorRole::kLinear, {c_.dim, d.source_layers * c_.dim});
      Add(p + "main_norm.weight", TensorRole::kNorm, {c_.dim});
    }
    if (parallel && i + 1 < d.blocks) return;
    Add(p + "norm.weight", TensorRole::kNorm, {c_.dim});
    HyperConnection(p + "hc_head_", c_.hc_mult, 1);
    if (!parallel) return;
    Add(p + "markov_head.markov_w1.weight", TensorRole::kEmbedding, {c_.vocab_size, d.markov_rank});
    Add(p + "markov_head.markov_w2.weight", TensorRole::kEmbedding, {c_.vocab_size, d.markov_rank});
    Add(p + "confidence_head.proj.weight", TensorRole::kMatrix, {1, c_.dim + d.markov_rank});
  }

  const ModelConfig& c_;
  const InventoryOptions& options_;
  std::vector<TensorSpec> specs_;
};

}  // namespace

std::string TensorSpec::ScaleName() const {
  constexpr std::string_view kWeight = ".weight";
  std::string_view stem = name;
  if (stem.ends_with(kWeight)) stem.remove_suffix(kWeight.size());
  return std::string(stem) + ".scale";
}

Dims ScaleDims(const Dims& matrix, ScaleBlock block) {
  const auto blocks = [](int64_t n, int64_t length) { return (n + length - 1) / length; };
  return {blocks(matrix[0], block.rows), blocks(matrix[1], block.columns)};
}

std::vector<StoredTensor> PublishedForm(const TensorSpec& spec) {
  switch (spec.role) {
    case TensorRole::kLinear:
      return {{spec.name, DType::kE4M3, spec.dims}, {spec.ScaleName(), DType::kE8M0, ScaleDims(spec.dims, kE4M3Block)}};
    case TensorRole::kExpert:  // two codes in a byte, under the name of a signed byte
      return {{spec.name, DType::kI8, {spec.dims[0], spec.dims[1] / 2}},
              {spec.ScaleName(), DType::kE8M0, ScaleDims(spec.dims, kE2M1Block)}};
    case TensorRole::kMatrix:
    case TensorRole::kEmbedding:
    case TensorRole::kNorm:
      return {{spec.name, DType::kBF16, spec.dims}};
    case TensorRole::kHyperFn:
    case TensorRole::kHyperBase:
    case TensorRole::kHyperScale:
    case TensorRole::kSink:
    case TensorRole::kBias:
    case TensorRole::kPosition:
      return {{spec.name, DType::kF32, spec.dims}};
    case TensorRole::kTable:
      return {{spec.name, DType::kI64, spec.dims}};
  }
  return {};
}

std::vector<TensorSpec> TensorInventory(const ModelConfig& config, const InventoryOptions& options) {
  return InventoryWriter(config, options).Write();
}

}  // namespace vexil
