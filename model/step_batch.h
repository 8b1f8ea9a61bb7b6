// One step as plain data: the tokens of many sequences, where each stands, where its state lies.
//
// Tokens are ragged: those of one sequence are consecutive and in position order. All index tensors are I32, so
// that on an accelerator the step's whole metadata is one small upload.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "model/state.h"

namespace vexil {

// Which of a chunk's tokens get logits.
enum class LogitRows : uint8_t { kNone, kLast, kAll };

// Tokens to append to one sequence.
struct SequenceChunk {
  SequenceState* state = nullptr;
  std::span<const int32_t> tokens;
  LogitRows logits = LogitRows::kLast;
};

struct StepBatch {
  // What a compression ratio means for this step.
  struct Emission {
    int64_t ratio = 0;
    std::vector<int32_t> entry_begin;  // [S+1] entries that each sequence completes in this step
    std::vector<int32_t> positions;    // [M] position of the entry's first token, j * ratio
    std::vector<int32_t> rows;         // [M] its row in the layer's pool
    std::vector<int32_t> count;        // [n] entries that each token may see, (t + 1) / ratio
    int64_t max_count = 0;
  };

  std::vector<int32_t> tokens, positions, seq;  // [n]
  std::vector<int32_t> window_rows;      // [n] place in the window rings, slot * capacity + p % capacity; -1 when
                                         // a later token of the step takes it
  std::vector<int32_t> seq_begin, slot;  // [S+1], [S]
  std::vector<int32_t> block_table;      // [S, blocks], -1 unused
  int64_t blocks = 0;
  std::vector<int32_t> logit_rows;  // tokens whose logits are wanted, ascending
  std::vector<Emission> emissions;  // one per distinct non-zero ratio of the model

  int64_t num_tokens() const { return int64_t(tokens.size()); }
  const Emission& emission(int64_t ratio) const;
};

// The metadata of a step as the ops read it: I32 tensors in the memory of the device that runs the step.
struct StepTensors {
  struct Emission {
    int64_t ratio = 0;
    TensorView entry_begin, positions, rows, count;
    int64_t max_count = 0;
  };
  TensorView tokens, positions, seq, window_rows;  // [n]
  TensorView seq_begin, slot;                      // [S+1], [S]
  TensorView block_table;                          // [S, blocks]
  TensorView logit_rows;
  std::vector<Emission> emissions;

  int64_t num_tokens() const { return tokens.dim(0); }
  const Emission& emission(int64_t ratio) const;
};

// Views of the batch itself, which must outlive them.
StepTensors ViewsOf(const StepBatch& batch);
// For an accelerator: bytes that the metadata takes as one block, and its layout. Writes the block to `host` and
// returns views of a copy that the caller makes at `device`.
size_t PackedBytes(const StepBatch& batch);
StepTensors Pack(const StepBatch& batch, void* host, void* device, DeviceId id);

// Reserves state for every chunk (StatePool::Reserve) and lays the step out. Chunks name distinct sequences and hold
// at least one token each. kInvalidArgument for a token id outside [0, vocab_size).
Result<StepBatch> BuildStep(StatePool& pool, std::span<const SequenceChunk> chunks, int64_t vocab_size);

// Widens a step of one token per sequence to shapes that depend only on the number of sequences and on `max_length`, a
// multiple of kPageTokens and at least the length of each: what is captured once then serves any such step. The results
// are the same bits; every ratio completes an entry per sequence, those that do not have theirs in row -1, which is
// none.
void PadDecode(StepBatch& batch, int64_t max_length);

}  // namespace vexil
