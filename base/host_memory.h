// Host memory for tensors: zeroed, aligned, and in large pages where there is enough of it to fill one.
//
// A matrix is read once per token, so nearly every page that a product touches needs a new translation. With pages of
// 4 KB these take about a tenth of a memory-bound product's time (docs/performance.md). Large pages are asked for, not
// demanded: where the system has none, the memory is the same but slower. Files that are mapped get them from the page
// cache of the file system, without being asked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vexil {

class HostMemory {
 public:
  static constexpr size_t kAlign = 64;  // a cache line and the widest SIMD register

  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  HostMemory& operator=(HostMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HostMemory();

  // Memory of `bytes`, which the system provides page by page as they are first written. Empty (data() is null) when
  // there is no more.
  static HostMemory Allocate(size_t bytes);

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  HostMemory(uint8_t* data, size_t bytes) : data_(data), bytes_(bytes) {}

  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace vexil
