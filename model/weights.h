// The weights of a DeepSeek-V4 model as the forward pass uses them.
//
// Matrices are views of the mapped checkpoint in the format in which they were published; nothing is expanded.
// Small parameters (norms, hyper-connections, sinks, position biases, router bias, token-to-expert table) are
// converted to F32 or I32 on load, as the published runtime does. Immutable after Load and safe to share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "device/device.h"
#include "io/checkpoint_files.h"
#include "model/config.h"
#include "model/expert_placement.h"

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

// What expert e takes on a device, and in host memory behind other experts: its tensors one after the other (w1, w3,
// w2, codes before scales), each aligned as on the device.
int64_t ExpertBytes(const MoeWeights& w, int64_t e);

// Told of slow work in a few words, from the thread that does it. May be empty.
using Progress = std::function<void(const std::string& what)>;

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
  // memory when it is null. With a budget of device memory experts may be in pinned host memory, as after MoveTo().
  static Result<ModelWeights> Synthetic(const ModelConfig& config, uint64_t seed, Device* device,
                                        std::optional<int64_t> budget = {}, const Progress& progress = {});

  // The same without making them: views with shapes and dtypes, whose addresses mean nothing. For arithmetic and dry
  // runs.
  static ModelWeights Outline(const ModelConfig& config);

  // Copies everything to the device, which must outlive the weights; the views then name device memory. Those of the
  // experts that the placement leaves in host memory name pinned memory, one expert after the other.
  // kResourceExhausted when there is not enough of either. After an error the weights are of no use.
  Status MoveTo(Device& device, const ExpertPlacement& placement, const Progress& progress = {});

  WeightSizes Sizes() const;
  // Where the experts are; without a device all of them are where the rest is.
  const ExpertPlacement& placement() const { return placement_; }

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
  // Every tensor but those of experts that are not `resident` (by layer), in the order in which a step reads them; the
  // codes of all experts of a layer one after the other, then their scales.
  std::vector<TensorView*> Tensors(std::span<const int64_t> resident);
  // Pinned memory for the host experts of the placement, a block per layer.
  Status PinExperts(Device& device);

  std::shared_ptr<const CheckpointFiles> files_;
  std::vector<std::unique_ptr<std::byte[]>> converted_;  // owns the small parameters
  DeviceBuffer on_device_;                               // everything but host experts, after MoveTo()
  ExpertPlacement placement_;
  std::vector<PinnedBuffer> pinned_;  // host experts, by layer
};

}  // namespace vexil
