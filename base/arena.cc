#include "base/arena.h"

#include <algorithm>
#include <new>
#include <utility>

namespace vexil {

// Blocks double, so that there are few; those of a device start larger, because getting one is slow there.
void Arena::AddBlock(size_t bytes) {
  const size_t least = size_t(1) << (source_ ? 25 : 20);
  const size_t last = blocks_.empty() ? 0 : blocks_.back().bytes;
  const size_t size = std::max({least, 2 * last, bytes});
  Block block{{nullptr, Free{source_}}, {}, nullptr, size};
  if (source_) {
    block.of_source.reset(source_->AllocateBlock(size));
    block.data = block.of_source.get();
  } else {
    block.of_host = HostMemory::Allocate(size);
    block.data = block.of_host.data();
  }
  if (block.data == nullptr) throw std::bad_alloc();
  blocks_.push_back(std::move(block));
}

void* Arena::Allocate(size_t bytes) {
  const size_t align = source_ ? kDeviceAlign : kAlign;
  bytes = std::max<size_t>((bytes + align - 1) / align * align, align);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
    used_ = 0;
    ++block_;
  }
  if (block_ == blocks_.size()) AddBlock(bytes);
  void* p = static_cast<char*>(blocks_[block_].data) + used_;
  used_ += bytes;
  return p;
}

size_t Arena::capacity() const {
  size_t sum = 0;
  for (const Block& b : blocks_) sum += b.bytes;
  return sum;
}

}  // namespace vexil
