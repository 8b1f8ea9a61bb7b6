// The linears of attention that read the same rows, all at once: a decode step spends as long on starting a product of
// one row as on reading 10 MB of weights.
#include <cmath>

#include "model/v4/forward.h"

namespace vexil::v4 {
namespace {

using Product = LinearInput::Product;

CompressorInput NewCompressorInput(const ForwardStep& s, const CompressorWeights& w, std::vector<Product>& products) {
  const int64_t width = w.ape.dim(1);
  const CompressorInput input = {s.NewF32({s.n(), width}), s.NewF32({s.n(), width})};
  products.push_back({w.wkv, input.kv});
  products.push_back({w.wgate, input.score});
  return input;
}

// 8.5: the constant factor of the head weights.
float HeadWeightFactor(const ModelConfig& c) {
  return float(1.0 / std::sqrt(double(c.index_head_dim)) / std::sqrt(double(c.index_heads)));
}

}  // namespace

Result<AttentionInput> ProjectInput(const ForwardStep& s, int64_t ratio, const AttentionWeights& w, LinearInput& x) {
  AttentionInput input;
  input.q_low = s.Activations({s.n(), s.config.q_lora_rank});
  input.kv = s.Activations({s.n(), s.config.head_dim});
  std::vector<Product> products = {{w.wq_a, input.q_low}, {w.wkv, input.kv}};
  if (w.compressor) input.compressor = NewCompressorInput(s, *w.compressor, products);
  if (w.indexer) {
    input.index_compressor = NewCompressorInput(s, w.indexer->compressor, products);
    if (s.batch.emission(ratio).max_count > 0) {
      input.head_weights = s.Activations({s.n(), s.config.index_heads});
      products.push_back({w.indexer->weights_proj, input.head_weights, HeadWeightFactor(s.config)});
    }
  }
  VX_TRY(x.TimesAll(products));
  return input;
}

Result<AttentionQueries> ProjectQueries(const ForwardStep& s, const AttentionWeights& w, const AttentionInput& input) {
  AttentionQueries queries;
  queries.q = s.Activations({s.n(), s.config.num_heads * s.config.head_dim});
  if (input.head_weights.empty()) {
    VX_ASSIGN(LinearInput q_low, LinearInput::Normed(s, input.q_low, w.q_norm, {&w.wq_b}));
    VX_TRY(q_low.Times(w.wq_b, queries.q));
    return queries;
  }
  const QuantView& index_wq_b = w.indexer->wq_b;
  queries.index_q = s.Activations({s.n(), s.config.index_heads * s.config.index_head_dim});
  VX_ASSIGN(LinearInput q_low, LinearInput::Normed(s, input.q_low, w.q_norm, {&w.wq_b, &index_wq_b}));
  const Product products[] = {{w.wq_b, queries.q}, {index_wq_b, queries.index_q}};
  VX_TRY(q_low.TimesAll(products));
  return queries;
}

}  // namespace vexil::v4
