// The numbers that define a DeepSeek-V4 model, read from any of the three configuration dialects:
//   config.json of the published checkpoint      (hidden_size, num_hidden_layers, compress_ratios, ...)
//   config.json written by transformers          (the same plus layer_types, mlp_layer_types, rope_parameters)
//   the inference program's config               (dim, n_layers, compress_ratios, ...)
// Symbols in comments are those of docs/notation.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace vexil {

struct RopeScaling {
  double factor = 1;            // s
  int64_t original_length = 0;  // N; 0: no YaRN
  double beta_fast = 32;
  double beta_slow = 1;
};

struct ModelConfig {
  int64_t vocab_size = 0;                // V
  int64_t dim = 0;                       // D
  int64_t num_layers = 0;                // L
  int64_t num_hash_layers = 0;           // the first layers, which route by token id
  int64_t num_draft_layers = 0;          // speculative blocks whose tensors (mtp.K.*) may be present
  int64_t num_heads = 0;                 // H
  int64_t head_dim = 0;                  // dh
  int64_t rope_dim = 0;                  // dr, the last channels of a head
  int64_t q_lora_rank = 0;               // Rq
  int64_t o_groups = 0;                  // G
  int64_t o_lora_rank = 0;               // Ro
  int64_t window = 0;                    // W
  std::vector<int64_t> compress_ratios;  // [L]: 0 window only, 4 overlapped with indexer, else plain
  int64_t index_heads = 0;               // Hi
  int64_t index_head_dim = 0;            // di
  int64_t index_topk = 0;                // K
  int64_t expert_dim = 0;                // F
  int64_t num_experts = 0;               // E
  int64_t experts_per_token = 0;         // k
  double route_scale = 1;
  double swiglu_limit = 0;  // 0: no clamp
  int64_t hc_mult = 4;      // n_hc, residual streams
  int64_t sinkhorn_iters = 20;
  double hc_eps = 1e-6;
  double norm_eps = 1e-6;
  double rope_theta = 10000;            // layers without compression
  double compress_rope_theta = 160000;  // layers with compression
  RopeScaling rope_scaling;             // layers with compression
  int64_t max_positions = 0;            // 0: not stated
  int64_t bos_id = 0;
  int64_t eos_id = 1;
  bool quantized = false;  // the checkpoint says its linears are stored in FP8

  bool has_ratio(int64_t ratio) const;
  bool is_hash_layer(int64_t layer) const { return layer < num_hash_layers; }

  // Parses and checks every value against every other. `name` is put in front of messages, which name the
  // key at fault: "config.json: o_groups: found 3, expected a divisor of num_attention_heads (64)".
  static Result<ModelConfig> Parse(std::string_view json, std::string_view name);
  static Result<ModelConfig> ReadFile(const std::string& path);
};

inline constexpr int64_t kOverlapRatio = 4;  // exactly this ratio overlaps its blocks and has an indexer

}  // namespace vexil
