// The weights of a DeepSeek-V4 model as the forward pass uses them.
//
// Matrices are views of the mapped checkpoint in the format in which they were published; nothing is expanded.
// Small parameters (norms, hyper-connections, sinks, position biases, router bias, token-to-expert table) are
// converted to F32 or I32 on load, as the published runtime does. Immutable after Load and safe to share.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "device/device.h"
#include "io/checkpoint_files.h"
#include "model/config.h"

namespace vexil {

// Hyper-connection parameters of one sub-layer (spec: model, 5). F32.
struct HyperConnectionWeights {
  TensorView fn;     // [(2+m)m, mD]; the head's: [m, mD]
  TensorView scale;  // [3]; the head's: [1]
  TensorView base;   // [(2+m)m]; the head's: [m]
};

// Spec: model, 8.4. c = 2 with overlap (ratio 4), else 1.
struct CompressorWeights {
  QuantView wkv, wgate;  // [c*d, D]
  TensorView ape;        // F32 [ratio, c*d]
  TensorView norm;       // F32 [d]
};

// Spec: model, 8.5.
struct IndexerWeights {
  QuantView wq_b;          // [Hi*di, Rq]
  QuantView weights_proj;  // [Hi, D]
  CompressorWeights compressor;
};

struct AttentionWeights {
  QuantView wq_a;                               // [Rq, D]
  TensorView q_norm;                            // F32 [Rq]
  QuantView wq_b;                               // [H*dh, Rq]
  QuantView wkv;                                // [dh, D]
  TensorView kv_norm;                           // F32 [dh]
  TensorView sink;                              // F32 [H]
  std::vector<QuantView> wo_a;                  // G times [Ro, H*dh/G]
  QuantView wo_b;                               // [D, G*Ro]
  std::optional<CompressorWeights> compressor;  // ratio != 0
  std::optional<IndexerWeights> indexer;        // ratio 4
};

// Spec: model, 9.
struct MoeWeights {
  QuantView gate;                     // [E, D]
  TensorView bias;                    // F32 [E]; empty in hash layers
  TensorView tid2eid;                 // I32 [V, k]; empty in learned layers
  std::vector<QuantView> w1, w3, w2;  // E times [F, D], [F, D], [D, F]
  QuantView shared_w1, shared_w3, shared_w2;
};

struct LayerWeights {
  TensorView attn_norm, ffn_norm;  // F32 [D]
  HyperConnectionWeights hc_attn, hc_ffn;
  AttentionWeights attn;
  MoeWeights moe;
};

class ModelWeights {
 public:
  // Every tensor that `config` calls for must be there with the right shape and a dtype that its place allows,
  // and no other: a missing, extra, misshapen or mistyped tensor is an error that names it. Tensors of
  // speculative blocks (mtp.K.*, K < num_draft_layers) are allowed and left alone.
  static Result<ModelWeights> Load(std::shared_ptr<const CheckpointFiles> files, const ModelConfig& config);

  // Random weights in the published formats (model/synthetic.h), made where they are used: on the device, or in host
  // memory when it is null.
  static Result<ModelWeights> Synthetic(const ModelConfig& config, uint64_t seed, Device* device);

  // Copies everything to the device, which must outlive the weights; the views then name device memory.
  Status MoveTo(Device& device);

  TensorView embed;  // [V, D]
  QuantView head;    // [V, D]
  TensorView norm;   // F32 [D]
  HyperConnectionWeights hc_head;
  std::vector<LayerWeights> layers;

  // Bytes of all tensors, as stored.
  int64_t stored_bytes = 0;
  // Whether any linear is stored in a block-scaled format.
  bool has_quantized_linears = false;

 private:
  // Every tensor, in the order in which a step reads them; the codes of all experts of a layer one after the other,
  // then their scales.
  std::vector<TensorView*> Tensors();

  std::shared_ptr<const CheckpointFiles> files_;
  std::vector<std::unique_ptr<std::byte[]>> converted_;  // owns the small parameters
  DeviceBuffer on_device_;                               // everything, after MoveTo()
};

}  // namespace vexil
