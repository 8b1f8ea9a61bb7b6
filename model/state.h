// The decode state of sequences (spec: model, 11 and 12).
//
// Per layer, a sequence has
//   a tail, small and mutable, in a slot of its own:
//     window rows                [window_capacity, dh]    the row of position p at p % capacity
//     overlap rows (ratio 4)     [overlap_capacity, 2, 2d] the compressor's (kv, score) of position p, likewise;
//                                                         one for the attention, one for the indexer
//     running softmax (ratio r)  [running_capacity, 3, dh] after position p at p % capacity
//   compressed entries and indexer keys, append-only, in pages of `page_tokens` tokens that all layers share:
//     entry j of the sequence is row page(j / per_page) * per_page + j % per_page of the layer's pool.
//
// Everything is keyed by absolute position, so appending in chunks of any length gives the same bits, and rolling
// back is forgetting: the capacities hold `kMaxRollback` positions more than a step ever reads.
// Pages are counted references: a fork shares them, and whoever writes into a shared page first gets its own copy.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/host_memory.h"
#include "base/status.h"
#include "base/tensor.h"
#include "device/device.h"
#include "model/config.h"
#include "model/numerics.h"

namespace vexil {

inline constexpr int64_t kMaxRollback = 8;   // tokens that RollBack() can take back
inline constexpr int64_t kPageTokens = 256;  // every ratio divides it

// Sizes of one model's state.
struct StateLayout {
  struct Layer {
    int64_t ratio = 0;
    int64_t entries_per_page = 0;  // 0: no compressed entries
  };
  std::vector<Layer> layers;
  DType dtype = DType::kBF16;  // of window rows, entries and keys
  int64_t head_dim = 0;        // dh
  int64_t index_head_dim = 0;  // di
  int64_t window_capacity = 0;
  int64_t overlap_capacity = 0;
  int64_t running_capacity = 0;

  static StateLayout For(const ModelConfig& config, const Numerics& numerics);
  int64_t TailBytes() const;  // of one sequence
  int64_t PageBytes() const;  // of one page over all layers
};

// A sequence's place in the pools. Owned by the StatePool that made it.
struct SequenceState {
  int32_t slot = -1;
  int64_t length = 0;          // tokens in the state: positions 0 .. length-1
  int64_t high_water = 0;      // largest length so far; positions below high_water - capacity are overwritten
  std::vector<int32_t> pages;  // page i holds tokens [256 i, 256 (i+1))
};

// The pools of all sequences. Not thread-safe: one step or one change at a time.
class StatePool {
 public:
  // Host memory is touched only as it is used; device memory is taken at once. `device` (null: the host) must outlive
  // the pool. kResourceExhausted when the address space or the device does not take it.
  static Result<std::unique_ptr<StatePool>> Create(const StateLayout& layout, int64_t max_sequences, int64_t max_pages,
                                                   Device* device = nullptr);

  // An empty sequence. kResourceExhausted when every slot is taken.
  Result<SequenceState> NewSequence();
  void Free(SequenceState& sequence);

  // Makes room for `count` more tokens: pages for the positions to come, each of them this sequence's own.
  // kResourceExhausted when the pages run out; the sequence is then unchanged but for pages it already got.
  Status Reserve(SequenceState& sequence, int64_t count);
  // Counts `count` tokens as present. A step has written their rows.
  void Advance(SequenceState& sequence, int64_t count);
  // Forgets the last `count` tokens, 0 <= count <= length. kInvalidArgument when older rows that the shorter sequence
  // needs are already overwritten: more than kMaxRollback below the longest length so far.
  Status RollBack(SequenceState& sequence, int64_t count);

  // A second sequence with the same state. Full pages are shared, the tail is copied.
  Result<SequenceState> Fork(const SequenceState& sequence);
  // The same with pages of its own, for measuring what many sequences cost. kResourceExhausted as above.
  Result<SequenceState> Duplicate(const SequenceState& sequence);

  // The state in a safetensors file, and back. A file of another model layout is refused.
  Status Save(const SequenceState& sequence, const std::string& path) const;
  Result<SequenceState> Restore(const std::string& path);

  const StateLayout& layout() const { return layout_; }
  int64_t free_pages() const { return int64_t(free_pages_.size()); }
  int64_t max_sequences() const { return max_sequences_; }

  // What the ops see. Empty views for parts a layer does not have.
  struct LayerViews {
    MutTensorView window;         // [slots, window_capacity, dh]
    MutTensorView overlap;        // F32 [slots, overlap_capacity, 2, 2 dh]
    MutTensorView index_overlap;  // F32 [slots, overlap_capacity, 2, 2 di]
    MutTensorView running;        // F32 [slots, running_capacity, 3, dh]
    MutTensorView entries;        // [pages * entries_per_page, dh]
    MutTensorView index_keys;     // [pages * entries_per_page, di]
  };
  const LayerViews& layer(int64_t i) const { return layers_[size_t(i)]; }

 private:
  StatePool() = default;
  Status Map(MutTensorView& view, DType dtype, Dims dims);
  Status Copy(const MutTensorView& to, const TensorView& from);  // of the same bytes, within the pool
  Result<int32_t> TakePage();
  void DropPage(int32_t page);
  Status OwnPage(SequenceState& sequence, size_t i);  // page i is nobody else's afterwards
  // A part of a tail or a page, for copying and saving.
  template <class F>
  void ForTail(int32_t slot, F&& f) const;
  template <class F>
  void ForPage(int32_t page, F&& f) const;

  Device* device_ = nullptr;
  StateLayout layout_;
  int64_t max_sequences_ = 0;
  std::vector<LayerViews> layers_;
  std::vector<HostMemory> memory_;
  std::vector<DeviceBuffer> device_memory_;
  std::vector<int32_t> free_slots_, free_pages_;
  std::vector<int32_t> page_users_;
};

}  // namespace vexil
