#include "base/arena.h"

#include <gtest/gtest.h>

#include <cstring>

namespace vexil {
namespace {

bool IsAligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % Arena::kAlign == 0; }

TEST(Arena, EveryAllocationIsAlignedAndDisjoint) {
  Arena arena;
  constexpr size_t kSizes[] = {0, 1, 63, 64, 65, 4096, (size_t(1) << 20) - 1, size_t(3) << 20, 7};
  std::vector<std::pair<unsigned char*, size_t>> parts;
  for (size_t size : kSizes) {
    auto* p = static_cast<unsigned char*>(arena.Allocate(size));
    ASSERT_TRUE(IsAligned(p)) << size;
    std::memset(p, int(parts.size() + 1), size);
    parts.emplace_back(p, size);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t k = 0; k < parts[i].second; ++k) ASSERT_EQ(parts[i].first[k], i + 1) << "part " << i << " byte " << k;
  }
}

TEST(Arena, EmptyAllocationsAreDistinct) {
  Arena arena;
  EXPECT_NE(arena.Allocate(0), arena.Allocate(0));
}

TEST(Arena, ScopeGivesItsMemoryBack) {
  Arena arena;
  void* before = arena.Allocate(100);
  void* inside;
  {
    Arena::Scope scope(arena);
    inside = arena.Allocate(100);
    EXPECT_NE(inside, before);
  }
  EXPECT_EQ(arena.Allocate(100), inside);
}

TEST(Arena, ScopesNest) {
  Arena arena;
  Arena::Scope outer(arena);
  void* a = arena.Allocate(10);
  {
    Arena::Scope inner(arena);
    arena.Allocate(size_t(5) << 20);  // moves on to another block
  }
  EXPECT_EQ(static_cast<char*>(arena.Allocate(10)) - static_cast<char*>(a), ptrdiff_t(Arena::kAlign));
}

TEST(Arena, RepeatedStepsHoldNoMoreMemory) {
  Arena arena;
  const auto step = [&] {
    Arena::Scope scope(arena);
    for (size_t i = 0; i < 40; ++i) arena.Allocate(i * 70'000);
  };
  step();
  const size_t capacity = arena.capacity();
  EXPECT_GT(capacity, size_t(0));
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(arena.capacity(), capacity);
}

TEST(Arena, NewTensorHasRoomForItsElements) {
  Arena arena;
  MutTensorView t = arena.NewTensor(DType::kBF16, {3, 5});
  MutTensorView next = arena.NewTensor(DType::kF32, {2});
  EXPECT_EQ(t.dtype(), DType::kBF16);
  EXPECT_EQ(t.dims(), Dims({3, 5}));
  EXPECT_TRUE(IsAligned(t.raw()));
  EXPECT_GE(static_cast<const char*>(next.raw()) - static_cast<const char*>(t.raw()), 30);
}

}  // namespace
}  // namespace vexil
