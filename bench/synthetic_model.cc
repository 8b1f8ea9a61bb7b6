#include "bench/synthetic_model.h"

#include "ops/linear/operands.h"

namespace vexil {
namespace {

// Without layers.
ModelConfig FlashConfig() {
  ModelConfig c;
  c.vocab_size = 129280;
  c.dim = 4096;
  c.num_heads = 64;
  c.head_dim = 512;
  c.rope_dim = 64;
  c.q_lora_rank = 1024;
  c.o_groups = 8;
  c.o_lora_rank = 1024;
  c.window = 128;
  c.index_heads = 64;
  c.index_head_dim = 128;
  c.index_topk = 512;
  c.expert_dim = 2048;
  c.num_experts = 256;
  c.experts_per_token = 6;
  c.route_scale = 1.5;
  c.swiglu_limit = 10;
  c.rope_scaling = {.factor = 16, .original_length = 65536, .beta_fast = 32, .beta_slow = 1};
  c.max_positions = 1048576;
  c.quantized = true;
  return c;
}

// Fills a layer's places with random values of about the size that trained ones have.
class RandomWeights {
 public:
  RandomWeights(TestArena& arena, const ModelConfig& config) : m_(arena), c_(config) {}

  LayerWeights Layer(int64_t ratio) {
    LayerWeights w;
    w.attn_norm = Norm(c_.dim);
    w.ffn_norm = Norm(c_.dim);
    w.hc_attn = HyperConnection((2 + c_.hc_mult) * c_.hc_mult, 3);
    w.hc_ffn = HyperConnection((2 + c_.hc_mult) * c_.hc_mult, 3);
    w.attn = Attention(ratio);
    w.moe = Experts();
    return w;
  }
  HyperConnectionWeights HyperConnection(int64_t mixes, int64_t scales) {
    return {.fn = m_.Normal(DType::kF32, {mixes, c_.hc_mult * c_.dim}, 0.01),
            .scale = m_.Uniform(DType::kF32, {scales}, 0.5, 1),
            .base = m_.Normal(DType::kF32, {mixes})};
  }
  TensorView Norm(int64_t d) { return m_.Normal(DType::kF32, {d}, 0.1, 1); }
  MutTensorView Bf16(int64_t n, int64_t k) { return m_.Normal(DType::kBF16, {n, k}, 0.02); }

 private:
  // Codes spread over their range: the scales bring the values to about 0.02.
  QuantView E4m3(int64_t n, int64_t k) {
    return QuantView(m_.Codes(DType::kE4M3, {n, k}),
                     m_.Scales({CeilDiv(n, kE4M3Block), CeilDiv(k, kE4M3Block)}, -13, -12), kE4M3Block, kE4M3Block);
  }
  QuantView E2m1(int64_t n, int64_t k) {
    return QuantView(m_.Codes(DType::kE2M1x2, {n, k / 2}), m_.Scales({n, CeilDiv(k, kE2M1Block)}, -8, -7), 1,
                     kE2M1Block);
  }

  AttentionWeights Attention(int64_t ratio) {
    AttentionWeights w;
    w.wq_a = E4m3(c_.q_lora_rank, c_.dim);
    w.q_norm = Norm(c_.q_lora_rank);
    w.wq_b = E4m3(c_.num_heads * c_.head_dim, c_.q_lora_rank);
    w.wkv = E4m3(c_.head_dim, c_.dim);
    w.kv_norm = Norm(c_.head_dim);
    w.sink = m_.Normal(DType::kF32, {c_.num_heads});
    for (int64_t g = 0; g < c_.o_groups; ++g) {
      w.wo_a.push_back(E4m3(c_.o_lora_rank, c_.num_heads * c_.head_dim / c_.o_groups));
    }
    w.wo_b = E4m3(c_.dim, c_.o_groups * c_.o_lora_rank);
    if (ratio != 0) w.compressor = Compressor(ratio, c_.head_dim);
    if (ratio == kOverlapRatio) {
      w.indexer = IndexerWeights{.wq_b = E4m3(c_.index_heads * c_.index_head_dim, c_.q_lora_rank),
                                 .weights_proj = QuantView(Bf16(c_.index_heads, c_.dim)),
                                 .compressor = Compressor(ratio, c_.index_head_dim)};
    }
    return w;
  }
  CompressorWeights Compressor(int64_t ratio, int64_t d) {
    const int64_t width = ratio == kOverlapRatio ? 2 * d : d;
    return {.wkv = QuantView(Bf16(width, c_.dim)),
            .wgate = QuantView(Bf16(width, c_.dim)),
            .ape = m_.Normal(DType::kF32, {ratio, width}),
            .norm = Norm(d)};
  }
  MoeWeights Experts() {
    MoeWeights w;
    w.gate = QuantView(Bf16(c_.num_experts, c_.dim));
    w.bias = m_.Normal(DType::kF32, {c_.num_experts}, 0.1);
    for (int64_t e = 0; e < c_.num_experts; ++e) {
      w.w1.push_back(E2m1(c_.expert_dim, c_.dim));
      w.w3.push_back(E2m1(c_.expert_dim, c_.dim));
      w.w2.push_back(E2m1(c_.dim, c_.expert_dim));
    }
    w.shared_w1 = E4m3(c_.expert_dim, c_.dim);
    w.shared_w3 = E4m3(c_.expert_dim, c_.dim);
    w.shared_w2 = E4m3(c_.dim, c_.expert_dim);
    return w;
  }

  TestArena& m_;
  const ModelConfig& c_;
};

}  // namespace

SyntheticModel::SyntheticModel() : arena_(43, TestArena::ForTiming()) {}

void SyntheticModel::Finish(ModelConfig config, ModelWeights weights) {
  model_ = Model::FromParts(std::move(config), std::move(weights), NumericsMode::kFp8);
}

ModelConfig LayerConfig(int64_t ratio) {
  ModelConfig config = FlashConfig();
  config.vocab_size /= 64;
  config.num_layers = 1;
  config.compress_ratios = {ratio};
  return config;
}

ModelConfig HeadConfig() { return FlashConfig(); }

std::unique_ptr<SyntheticModel> SyntheticModel::WithLayer(int64_t ratio) {
  std::unique_ptr<SyntheticModel> s(new SyntheticModel);
  ModelConfig config = LayerConfig(ratio);
  RandomWeights random(s->arena_, config);
  ModelWeights w;
  w.embed = random.Bf16(config.vocab_size, config.dim);
  w.layers.push_back(random.Layer(ratio));
  s->Finish(std::move(config), std::move(w));
  return s;
}

std::unique_ptr<SyntheticModel> SyntheticModel::WithHead() {
  std::unique_ptr<SyntheticModel> s(new SyntheticModel);
  const ModelConfig config = HeadConfig();
  RandomWeights random(s->arena_, config);
  ModelWeights w;
  w.embed = random.Bf16(config.vocab_size / 64, config.dim);
  w.head = QuantView(random.Bf16(config.vocab_size, config.dim));
  w.norm = random.Norm(config.dim);
  w.hc_head = random.HyperConnection(config.hc_mult, 1);
  s->Finish(config, std::move(w));
  return s;
}

}  // namespace vexil
