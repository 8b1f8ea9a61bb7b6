// The experts that are in host memory (model/expert_placement.h), on their way to the device: slots in its memory, each
// of which holds one expert at a time.
//
//   VX_ASSIGN(ExpertCache::Use use, cache.Begin(ctx, layer, offsets));   // the step's experts, on their way to the
//   host
//   ...                                                                  // work that needs none of them
//   VX_ASSIGN(const ExpertLists lists, use.Bring());                     // waits for them, issues the copies
//   ...                                                                  // issue what reads the lists
//
// Kernels and copies are issued to one stream, so a copy to a slot begins after everything that read what was there.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "device/device.h"
#include "model/weights.h"
#include "ops/op.h"

namespace vexil {

// The weights of one layer's experts for GroupedLinear; those of experts without rows may be anything of that format.
struct ExpertLists {
  std::span<const QuantView> w1, w3, w2;
};

// May be used by several threads: from Begin() until its Use is gone, others wait. All must run their steps on the
// device's own stream.
class ExpertCache {
 public:
  // Since the model was loaded. A hit or miss is a host expert that a layer of a step needed.
  struct Statistics {
    int64_t hits = 0, misses = 0, copied_bytes = 0;
  };

  // For weights on the device whose placement has host experts; both must outlive the cache.
  static Result<std::unique_ptr<ExpertCache>> Create(Device& device, const ModelWeights& weights);
  ~ExpertCache();
  ExpertCache(const ExpertCache&) = delete;
  ExpertCache& operator=(const ExpertCache&) = delete;

  // One layer of one step. Must live until everything that reads the lists has been issued.
  class Use {
   public:
    // Issues the copies of the experts that have rows and no slot, and gives the weights to multiply with.
    Result<ExpertLists> Bring() { return cache_->Bring(layer_); }

   private:
    friend class ExpertCache;
    Use(ExpertCache& cache, int64_t layer) : cache_(&cache), lock_(cache.mutex_), layer_(layer) {}
    ExpertCache* cache_;
    std::unique_lock<std::mutex> lock_;
    int64_t layer_;
  };

  bool HasHostExperts(int64_t layer) const { return !layers_[size_t(layer)].host.empty(); }
  // `offsets`: I32 [E + 1] on the device, ops/moe_dispatch. The layer must have host experts.
  Result<Use> Begin(const Context& ctx, int64_t layer, TensorView offsets);

  Statistics statistics() const;

 private:
  struct Layer {
    int64_t resident = 0, expert_bytes = 0;
    std::vector<const void*> host;      // of expert resident + i
    std::vector<int32_t> slot;          // likewise; -1: in none
    std::vector<QuantView> w1, w3, w2;  // E each: on the device, or where the slot was that the expert had last
  };
  struct Slot {
    int32_t layer = -1, host_expert = -1;  // what it holds
    int64_t last_use = 0;
  };

  explicit ExpertCache(Device& device) : device_(device) {}
  Result<ExpertLists> Bring(int64_t layer);
  Status Fetch(int64_t layer, int64_t host_expert);
  void Point(Layer& layer, int64_t host_expert, int64_t slot);
  char* Address(int64_t slot) const { return static_cast<char*>(memory_.data()) + slot * slot_bytes_; }

  Device& device_;
  int64_t slot_bytes_ = 0;
  DeviceBuffer memory_;
  PinnedBuffer offsets_;                 // of the present use
  Device::EventHandle asked_ = nullptr;  // the offsets are in host memory
  std::vector<Layer> layers_;
  std::vector<Slot> slots_;
  int64_t now_ = 0;  // counts uses
  Statistics statistics_;
  mutable std::mutex mutex_;  // of everything above but the constants
};

}  // namespace vexil
