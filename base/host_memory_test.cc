#include "base/host_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace vexil {
namespace {

constexpr size_t kMega = size_t(1) << 20;

TEST(HostMemory, IsAlignedZeroedAndDisjoint) {
  std::vector<HostMemory> parts;
  for (size_t bytes :
       {size_t(0), size_t(1), size_t(63), size_t(64), 2 * kMega - 1, 2 * kMega, 2 * kMega + 1, 7 * kMega + 5}) {
    HostMemory memory = HostMemory::Allocate(bytes);
    ASSERT_NE(memory.data(), nullptr) << bytes;
    ASSERT_GE(memory.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % HostMemory::kAlign, 0u) << bytes;
    EXPECT_TRUE(std::all_of(memory.data(), memory.data() + memory.bytes(), [](uint8_t b) { return b == 0; })) << bytes;
    std::memset(memory.data(), int(parts.size()) + 1, memory.bytes());
    parts.push_back(std::move(memory));
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const uint8_t* p = parts[i].data();
    EXPECT_TRUE(std::all_of(p, p + parts[i].bytes(), [&](uint8_t b) { return b == i + 1; })) << i;
  }
}

TEST(HostMemory, MovesItsMemory) {
  HostMemory a = HostMemory::Allocate(3 * kMega);
  a.data()[3 * kMega - 1] = 7;
  uint8_t* const p = a.data();
  HostMemory b = std::move(a);
  EXPECT_EQ(a.data(), nullptr);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(b.data(), p);
  a = std::move(b);
  EXPECT_EQ(a.data()[3 * kMega - 1], 7);
}

TEST(HostMemory, MoreThanThereIsGivesNone) {
  EXPECT_EQ(HostMemory::Allocate(SIZE_MAX).data(), nullptr);
  EXPECT_EQ(HostMemory::Allocate(size_t(1) << 62).data(), nullptr);
}

}  // namespace
}  // namespace vexil
