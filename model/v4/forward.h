// What the parts of one forward step share. Internal to model/v4.
//
// A token's way through the model: model/v4/model.cc embeds it into the residual streams, runs every layer's two
// sub-layers through their hyper-connections, and hands the streams to the head. Attention is attention.cc with
// compressor.cc and indexer.cc; the experts are moe.cc.
#pragma once

#include <functional>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/expert_cache.h"
#include "model/numerics.h"
#include "model/step_batch.h"
#include "model/weights.h"
#include "ops/finish_rows/finish_rows.h"
#include "ops/op.h"

namespace vexil::v4 {

// Sees intermediate tensors, in host memory, as they are made: "out" [n, m, D] the streams after the layer, "attn_out"
// and "mlp_out" [n, D] the sub-layers' outputs, "expert_ids" I32 and "expert_weights" F32 [n, k], "index_picks" I32 [n,
// K].
using Observer = std::function<void(int64_t layer, std::string_view what, const TensorView& value)>;

// RoPE frequencies, F32 [dr/2] (spec: model, 7.1), in the memory of the model's device.
struct RopeTables {
  TensorView window_only;  // layers without compression
  TensorView compressed;   // layers with it
  const TensorView& For(int64_t ratio) const { return ratio == 0 ? window_only : compressed; }
};

struct ForwardStep {
  const Context& ctx;
  const ModelConfig& config;
  const Numerics numerics;
  const RopeTables& rope;
  const StatePool& pool;
  const StepTensors& batch;
  const Observer* observer = nullptr;
  bool clamp_shared_expert = true;
  ExpertCache* expert_cache = nullptr;  // null: no expert is in host memory

  int64_t n() const { return batch.num_tokens(); }
  Arena& arena() const { return *ctx.workspace; }
  // Scratch of the activation dtype, or another.
  MutTensorView Activations(Dims dims) const { return arena().NewTensor(numerics.activation, dims); }
  MutTensorView NewF32(Dims dims) const { return arena().NewTensor(DType::kF32, dims); }
  MutTensorView NewI32(Dims dims) const { return arena().NewTensor(DType::kI32, dims); }
  // Waits for the device and copies the tensor to the host first, if there is one.
  void Observe(int64_t layer, std::string_view what, const TensorView& value) const;
};

// The input of several linears. In fp8 mode rounded to E4M3 once, when the first block-scaled weight asks for it
// (spec: quantization, 5), and to int8 once for INT8 weights (8); plain weights multiply the unrounded values.
class LinearInput {
 public:
  LinearInput(const ForwardStep& step, TensorView x) : step_(step), x_(x) {}
  // `e4m3`: x rounded already, block 128; empty: not yet.
  LinearInput(const ForwardStep& step, TensorView x, const QuantView& e4m3) : step_(step), x_(x), e4m3_(e4m3) {}

  static constexpr int64_t kE4M3Block = 128;  // channels per scale
  // Whether the step multiplies a weight with x in E4M3.
  static bool RoundsToE4M3(const ForwardStep& step, const QuantView& w);

  // The RMS norm of `x` for the given weights, and no others: where all of them take it rounded, in one pass. May leave
  // the norm in x.
  static Result<LinearInput> Normed(const ForwardStep& step, MutTensorView x, TensorView norm,
                                    std::initializer_list<const QuantView*> weights);

  // y = x . w^T
  Status Times(const QuantView& w, MutTensorView y);
  // The same where no other weight multiplies x, which is rounded on the way in.
  Status TimesAlone(const QuantView& w, MutTensorView y);
  // The same for several weights at once; each y is then multiplied by its factor (ops/multi_linear).
  struct Product {
    const QuantView& w;
    MutTensorView y;
    float factor = 1;
  };
  Status TimesAll(std::span<const Product> products);
  // What to multiply `w` with.
  Result<QuantView> For(const QuantView& w);

 private:
  Result<QuantView> AsE4M3();
  Result<QuantView> AsInt8();

  const ForwardStep& step_;
  TensorView x_;  // empty: only the rounded values are there
  QuantView e4m3_, int8_;
};

// What the sub-layers of a step hand on: the residual streams h, the output y that has not joined them, the input x of
// the next sub-layer. In the step's arena.
struct Residual {
  Residual(const ForwardStep& step, int64_t m, int64_t d);

  MutTensorView h;                   // [n, m, D]
  MutTensorView y;                   // [n, D]
  MutTensorView post, comb;          // [n, m], [n, m, m]: how y joins h
  MutTensorView x;                   // [n, D]
  MutTensorView codes, codes_scale;  // x in E4M3; empty when the mode rounds no inputs
  bool pending = false;              // y has been made, or is about to be, and has to join
};

// out = attention of layer `layer` over x (both [n, D]); appends to the state (spec: model, 8).
Status Attention(const ForwardStep& step, int64_t layer, const AttentionWeights& w, LinearInput& x, MutTensorView out);

// What multiplies the input x of attention, all of it made at once. Parts that a layer lacks are empty.
struct CompressorInput {
  MutTensorView kv, score;  // F32 [n, width]
};
struct AttentionInput {
  MutTensorView q_low;  // [n, Rq], the low-rank query before its norm
  MutTensorView kv;     // [n, dh]
  CompressorInput compressor, index_compressor;
  MutTensorView head_weights;  // [n, Hi], of the indexer, where the step shows some entry to some token
};
Result<AttentionInput> ProjectInput(const ForwardStep& step, int64_t ratio, const AttentionWeights& w, LinearInput& x);

// What multiplies the low-rank query: the queries of attention [n, H * dh] and of the indexer [n, Hi * di], which are
// empty where there are no head weights.
struct AttentionQueries {
  MutTensorView q, index_q;
};
Result<AttentionQueries> ProjectQueries(const ForwardStep& step, const AttentionWeights& w,
                                        const AttentionInput& input);

// Feeds a step's rows to a compressor and stores the entries it completes (spec: model, 8.4). `overlap` and `running`
// are the layer's tail, of which the compressor has one; `entries` the pool [rows, d].
enum class EntryKind : uint8_t { kAttention, kIndexKey };
struct CompressorState {
  MutTensorView overlap;
  MutTensorView running;
  MutTensorView entries;
};
Status Compress(const ForwardStep& step, int64_t ratio, const CompressorWeights& w, EntryKind kind,
                const CompressorState& state, const CompressorInput& input);

// The entries that each token attends to: I32 [n, min(K, most visible)], best first, -1 none (spec: model, 8.5).
// `q` [n, Hi, di] are the indexer's queries, rotated and rounded, `head_weights` [n, Hi]. The step must show some entry
// to some token.
Result<TensorView> SelectEntries(const ForwardStep& step, int64_t layer, TensorView q, TensorView head_weights);

// out = mixture of experts over x (spec: model, 9).
Status Moe(const ForwardStep& step, int64_t layer, const MoeWeights& w, LinearInput& x, MutTensorView out);

// Let rows be finished as the mode has it: cache rows rounded but for the rotary channels (spec: model, 8.2); index
// keys and queries rotated by a Hadamard matrix, which spreads outliers, and rounded (8.4, 8.5).
void RoundCacheRows(const ForwardStep& step, FinishRows::Set& rows);
void RoundIndexVectors(const ForwardStep& step, FinishRows::Set& rows);

}  // namespace vexil::v4
