#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/processors.h"

namespace vexil {
namespace {

TEST(ThreadPool, CountsTheCallingThread) {
  EXPECT_EQ(ThreadPool(-3).threads(), 1);
  EXPECT_EQ(ThreadPool(0).threads(), 1);
  EXPECT_EQ(ThreadPool(1).threads(), 1);
  EXPECT_EQ(ThreadPool(3).threads(), 3);
}

TEST(ThreadPool, PiecesCoverTheRangeOnceAndRespectTheGrain) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 2, 7, 64, 1000, 4097}) {
      for (int64_t grain : {-1, 1, 3, 100, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        std::atomic<bool> small{false};
        pool.For(n, grain, [&](int64_t begin, int64_t end) {
          if (begin < 0 || begin >= end || end > n || (end - begin < grain && end != n)) small = true;
          for (int64_t i = begin; i < end; ++i) ++seen[size_t(i)];
        });
        EXPECT_FALSE(small) << "threads=" << threads << " n=" << n << " grain=" << grain;
        for (int64_t i = 0; i < n; ++i) {
          ASSERT_EQ(seen[size_t(i)], 1) << "threads=" << threads << " n=" << n << " grain=" << grain << " i=" << i;
        }
      }
    }
  }
}

TEST(ThreadPool, SeveralThreadsTakePart) {
  ThreadPool pool(3);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  std::atomic<int> inside{0};
  // Each piece waits for a second one to be running, which only another thread can do.
  pool.For(6, 1, [&](int64_t, int64_t) {
    ++inside;
    while (inside < 2) std::this_thread::yield();
    std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_GE(ids.size(), 2u);
  EXPECT_LE(ids.size(), 3u);
}

TEST(ThreadPool, ManyShortLoopsLoseNothing) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  for (int k = 0; k < 500; ++k) {
    pool.For(16, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  }
  EXPECT_EQ(sum, 500 * 16);
}

TEST(ThreadPool, LoopsInsideALoopRunOnTheSameThread) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  std::atomic<bool> moved{false};
  pool.For(8, 1, [&](int64_t begin, int64_t end) {
    const auto self = std::this_thread::get_id();
    for (int64_t i = begin; i < end; ++i) {
      pool.For(100, 1, [&](int64_t b, int64_t e) {
        if (std::this_thread::get_id() != self) moved = true;
        sum += e - b;
      });
    }
  });
  EXPECT_EQ(sum, 800);
  EXPECT_FALSE(moved);
}

TEST(ThreadPool, RethrowsAndStaysUsable) {
  for (int threads : {1, 4}) {
    ThreadPool pool(threads);
    std::atomic<int> calls{0};
    const auto run = [&] {
      pool.For(1000, 1, [&](int64_t, int64_t) {
        ++calls;
        throw std::runtime_error("piece");
      });
    };
    EXPECT_THROW(run(), std::runtime_error);
    EXPECT_GE(calls, 1);
    EXPECT_LE(calls, threads) << "a thread took another piece after the failure";
    std::atomic<int64_t> sum{0};
    pool.For(100, 1, [&](int64_t b, int64_t e) { sum += e - b; });
    EXPECT_EQ(sum, 100);
  }
}

TEST(ThreadPool, ASleepingWorkerDoesNotHoldALoopUp) {
  // More threads than processors: most workers see most loops too late.
  ThreadPool pool(4 * ThreadPool::AvailableProcessors() + 3);
  std::atomic<int64_t> sum{0};
  for (int k = 0; k < 200; ++k) {
    pool.For(64, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  }
  EXPECT_EQ(sum, 200 * 64);
}

TEST(ThreadPool, ALoopAfterAPauseFindsItsWorkers) {
  ThreadPool pool(2);
  for (int k = 0; k < 3; ++k) {
    std::atomic<int> inside{0};
    pool.For(2, 1, [&](int64_t, int64_t) {
      ++inside;
      while (inside < 2) std::this_thread::yield();  // returns only if the worker wakes up
    });
    // Long enough for the worker to give up spinning; nothing depends on it.
    for (int i = 0; i < 100000; ++i) std::this_thread::yield();
  }
}

TEST(ThreadPool, PinningEndsWithThePool) {
  const std::vector<int> before = AllowedProcessors();
  {
    ThreadPool pool(int(before.size()), {.pin = true});
    EXPECT_EQ(AllowedProcessors().size(), 1u);
    std::atomic<int64_t> sum{0};
    pool.For(100, 1, [&](int64_t b, int64_t e) { sum += e - b; });
    EXPECT_EQ(sum, 100);
  }
  EXPECT_EQ(AllowedProcessors(), before);
  ThreadPool too_many(int(before.size()) + 1, {.pin = true});
  EXPECT_EQ(AllowedProcessors(), before) << "there is no processor for each";
}

TEST(ThreadPool, SeesAtLeastOneProcessor) { EXPECT_GE(ThreadPool::AvailableProcessors(), 1); }

}  // namespace
}  // namespace vexil
