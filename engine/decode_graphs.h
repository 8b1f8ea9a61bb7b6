// Decode steps of an accelerator as graphs: the hundreds of launches of a step, captured once, are replayed as one.
//
// A step in which each sequence gets one token is padded to shapes that depend on the number of sequences and on a
// power of two above their lengths (PadDecode); all else is metadata in device memory. The first step of a shape runs
// as it is, which also loads its kernels; the second is captured.
//
// Not thread-safe. Graphs name the memory of the model, the pool and of this object.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <utility>

#include "model/v4/model.h"

namespace vexil {

class DecodeGraphs {
 public:
  // Of a context with an accelerator. Everything must outlive the object.
  DecodeGraphs(const Model& model, const Context& ctx, StatePool& pool);
  ~DecodeGraphs();

  // Whether the chunks are such a step: one token each, and its logits wanted.
  static bool Serves(std::span<const SequenceChunk> chunks);
  // Issues the step and advances the sequences. The logits, F32 [S, V] on the device, stay until the next step of as
  // many sequences.
  Result<MutTensorView> Step(std::span<const SequenceChunk> chunks);

 private:
  struct Shape;
  Result<Shape*> ShapeFor(int64_t sequences, int64_t max_length, const StepBatch& batch);
  Status Issue(Shape& shape, const StepTensors& tensors);

  const Model& model_;
  Arena workspace_;
  Context ctx_;
  StatePool& pool_;
  std::map<std::pair<int64_t, int64_t>, std::unique_ptr<Shape>> shapes_;  // by sequences and max_length
};

}  // namespace vexil
