#include "base/arena.h"

#include <algorithm>
#include <new>

namespace vexil {

void Arena::Free::operator()(void* p) const {
  source ? source->FreeBlock(p) : ::operator delete(p, std::align_val_t(kAlign));
}

// Blocks double, so that there are few; those of a device start larger, because getting one is slow there.
void Arena::AddBlock(size_t bytes) {
  const size_t least = size_t(1) << (source_ ? 25 : 20);
  const size_t last = blocks_.empty() ? 0 : blocks_.back().bytes;
  const size_t size = std::max({least, 2 * last, bytes});
  void* p = source_ ? source_->AllocateBlock(size) : ::operator new(size, std::align_val_t(kAlign));
  if (p == nullptr) throw std::bad_alloc();
  blocks_.push_back({std::unique_ptr<void, Free>(p, Free{source_}), size});
}

void* Arena::Allocate(size_t bytes) {
  const size_t align = source_ ? kDeviceAlign : kAlign;
  bytes = std::max<size_t>((bytes + align - 1) / align * align, align);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
    used_ = 0;
    ++block_;
  }
  if (block_ == blocks_.size()) AddBlock(bytes);
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
