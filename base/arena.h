// Scratch memory for one step: bump allocation, freed all at once, reused by the next step.
//
// Not thread-safe: one arena belongs to one step. Memory is aligned to 64 bytes (a cache line and the
// widest SIMD register) and is not initialised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/tensor.h"

namespace vexil {

class Arena {
 public:
  static constexpr size_t kAlign = 64;

  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* Allocate(size_t bytes);
  template <class T>
  T* Allocate(int64_t count) {
    return static_cast<T*>(Allocate(size_t(count) * sizeof(T)));
  }
  MutTensorView NewTensor(DType dtype, Dims dims) {
    return MutTensorView(Allocate(size_t(dims.Count() * BytesOf(dtype))), dtype, dims);
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
    void operator()(void* p) const;
  };
  struct Block {
    std::unique_ptr<void, Free> data;
    size_t bytes;
  };

  std::vector<Block> blocks_;
  size_t block_ = 0;  // index of the block that is being filled
  size_t used_ = 0;   // bytes used of it
};

}  // namespace vexil
