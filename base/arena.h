// Scratch memory for one step: bump allocation, freed all at once, reused by the next step.
//
// Not thread-safe: one arena belongs to one step. Memory is aligned to 64 bytes (a cache line and the
// widest SIMD register), on accelerators to 256, and is not initialised. std::bad_alloc when the system or
// the device has no more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/host_memory.h"
#include "base/tensor.h"

namespace vexil {

// Where an arena gets its blocks from, when not from the heap: a device, pinned memory.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  virtual DeviceId device() const = 0;
  // Null when there is no more.
  virtual void* AllocateBlock(size_t bytes) = 0;
  virtual void FreeBlock(void* block) = 0;
};

class Arena {
 public:
  static constexpr size_t kAlign = HostMemory::kAlign;
  static constexpr size_t kDeviceAlign = 256;  // what wide loads and bulk copies of accelerators ask for

  Arena() = default;
  // `source` must outlive the arena; null is the heap.
  explicit Arena(BlockSource* source) : source_(source), device_(source ? source->device() : DeviceId{}) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* Allocate(size_t bytes);
  template <class T>
  T* Allocate(int64_t count) {
    return static_cast<T*>(Allocate(size_t(count) * sizeof(T)));
  }
  MutTensorView NewTensor(DType dtype, Dims dims) {
    return MutTensorView(Allocate(size_t(dims.Count() * BytesOf(dtype))), dtype, dims, device_);
  }

  // Bytes held from the system: about the largest step so far.
  size_t capacity() const;

  // Frees everything allocated during its life.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), block_(arena.block_), used_(arena.used_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_, used_;
  };

 private:
  struct Free {
    BlockSource* source;
    void operator()(void* p) const { source->FreeBlock(p); }
  };
  struct Block {
    std::unique_ptr<void, Free> of_source;  // one of these two owns
    HostMemory of_host;
    void* data;
    size_t bytes;
  };

  void AddBlock(size_t bytes);

  BlockSource* source_ = nullptr;  // null: the heap
  DeviceId device_;
  std::vector<Block> blocks_;
  size_t block_ = 0;  // index of the block that is being filled
  size_t used_ = 0;   // bytes used of it
};

}  // namespace vexil
