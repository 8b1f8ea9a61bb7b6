#include "base/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>

namespace vexil {
namespace {

// A large page of x86-64, and of aarch64 with basic pages of 4 KB. Less memory than one comes from the heap.
constexpr size_t kLargePage = size_t(2) << 20;

// Begins at a multiple of the large page, so that the first one can be large, too. What is mapped in excess to find
// such an address goes back.
uint8_t* MapLarge(size_t bytes) {
  void* mapped =
      mmap(nullptr, bytes + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  uint8_t* const begin = static_cast<uint8_t*>(mapped);
  const size_t skipped = (kLargePage - reinterpret_cast<uintptr_t>(begin) % kLargePage) % kLargePage;
  if (skipped > 0) (void)munmap(begin, skipped);
  (void)munmap(begin + skipped + bytes, kLargePage - skipped);
#ifdef MADV_HUGEPAGE
  (void)madvise(begin + skipped, bytes, MADV_HUGEPAGE);
#endif
  return begin + skipped;
}

}  // namespace

HostMemory HostMemory::Allocate(size_t bytes) {
  if (bytes >= kLargePage) {
    if (bytes > SIZE_MAX - 2 * kLargePage) return {};
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    bytes = (bytes + page - 1) / page * page;
    uint8_t* data = MapLarge(bytes);
    return data ? HostMemory(data, bytes) : HostMemory();
  }
  void* data = ::operator new(bytes, std::align_val_t(kAlign), std::nothrow);
  if (data == nullptr) return {};
  std::memset(data, 0, bytes);
  return HostMemory(static_cast<uint8_t*>(data), bytes);
}

HostMemory::~HostMemory() {
  if (bytes_ >= kLargePage) {
    (void)munmap(data_, bytes_);
  } else {
    ::operator delete(data_, std::align_val_t(kAlign));
  }
}

}  // namespace vexil
