#include "base/arena.h"

#include <algorithm>
#include <new>

namespace vexil {

void Arena::Free::operator()(void* p) const { ::operator delete(p, std::align_val_t(kAlign)); }

void* Arena::Allocate(size_t bytes) {
  constexpr size_t kMinBlock = size_t(1) << 20;
  bytes = std::max<size_t>((bytes + kAlign - 1) / kAlign * kAlign, kAlign);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
    used_ = 0;
    ++block_;
  }
  if (block_ == blocks_.size()) {
    const size_t last = blocks_.empty() ? 0 : blocks_.back().bytes;
    const size_t size = std::max({kMinBlock, 2 * last, bytes});
    blocks_.push_back({std::unique_ptr<void, Free>(::operator new(size, std::align_val_t(kAlign))), size});
  }
  void* p = static_cast<char*>(blocks_[block_].data.get()) + used_;
  used_ += bytes;
  return p;
}

size_t Arena::capacity() const {
  size_t sum = 0;
  for (const Block& b : blocks_) sum += b.bytes;
  return sum;
}

}  // namespace vexil
