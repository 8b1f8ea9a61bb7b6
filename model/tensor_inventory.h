// The list of tensors that a configuration calls for, under their published names (spec: checkpoint, 2 and 3).
//
// ModelWeights::Load asks for the same tensors one by one, with the same shapes; a test holds the two together.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "model/config.h"

namespace vexil {

// What a tensor is for. It decides which formats may store it and what sensible values are.
enum class TensorRole : uint8_t {
  kLinear,     // matrix [n, k], published in E4M3 with a scale
  kExpert,     // matrix [n, k] of a routed expert, published in E2M1 with a scale
  kMatrix,     // matrix [n, k], published in BF16
  kEmbedding,  // [V, D] BF16: a table, never block-scaled; the head is one, too
  kNorm,       // [d] BF16
  kHyperFn,    // F32: hyper-connections
  kHyperBase,
  kHyperScale,
  kSink,      // F32 [H]
  kBias,      // F32 [E]: router
  kPosition,  // F32 [ratio, c*d]: compressor
  kTable,     // I64 [V, k]: experts of a token
};

struct TensorSpec {
  std::string name;
  TensorRole role = TensorRole::kMatrix;
  Dims dims;  // logical elements: a packed E2M1 matrix has its true width

  bool IsMatrix() const { return role <= TensorRole::kMatrix; }
  // "layers.0.attn.wq_a.weight" -> "layers.0.attn.wq_a.scale"
  std::string ScaleName() const;
};

// Lengths of the two blocks of a scaled format. A scale tensor has a row per `rows` rows and a column per `columns`.
struct ScaleBlock {
  int64_t rows, columns;
};
inline constexpr ScaleBlock kE4M3Block{128, 128};
inline constexpr ScaleBlock kE2M1Block{1, 32};
// Dims of the scale tensor of a matrix [n, k].
Dims ScaleDims(const Dims& matrix, ScaleBlock block);

// One tensor of a file.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  Dims dims;  // storage elements
};
// How the published checkpoints store a tensor: the tensor itself, then its scale if it has one.
std::vector<StoredTensor> PublishedForm(const TensorSpec& spec);

// The speculative blocks of a checkpoint, which a configuration does not describe in full.
struct DraftLayout {
  enum class Kind : uint8_t {
    kNone,
    kSequential,  // each block projects the embedding and the hidden state (spec: checkpoint, 3.1)
    kParallel,    // the first block reads several layers, the last proposes tokens (spec: checkpoint, 3.2)
  };
  Kind kind = Kind::kNone;
  int64_t blocks = 0;
  int64_t source_layers = 3;  // kParallel: layers whose streams the first block reads
  int64_t markov_rank = 256;  // kParallel
};

struct InventoryOptions {
  DraftLayout drafts;
  // transformers keeps the experts of a layer in two tensors, [E, 2F, D] and [E, D, F].
  bool stacked_experts = false;
};

// In a readable order: top level, layer by layer, speculative blocks.
std::vector<TensorSpec> TensorInventory(const ModelConfig& config, const InventoryOptions& options);

}  // namespace vexil
