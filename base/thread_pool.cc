#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace vexil {
namespace {

thread_local bool inside_loop = false;

// Spinning a little catches the next loop of the same step without a system call; a step's loops are
// a few microseconds apart.
constexpr int kSpins = 2000;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::Impl {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> epoch{0};  // grows by one per loop
  std::atomic<bool> stop{false};

  // The loop that is running. Written before epoch grows, read after a worker has seen it grow.
  const FunctionRef<void(int64_t, int64_t)>* body = nullptr;
  int64_t n = 0, piece = 1;
  std::atomic<int64_t> next{0};
  std::atomic<int> busy{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  void RunPieces() {
    inside_loop = true;
    for (;;) {
      const int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= n) break;
      try {
        (*body)(begin, std::min(begin + piece, n));
      } catch (...) {
        std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(n, std::memory_order_relaxed);
      }
    }
    inside_loop = false;
  }

  void Work() {
    uint64_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && epoch.load(std::memory_order_acquire) == seen; ++i) Pause();
      if (epoch.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return epoch.load(std::memory_order_acquire) != seen; });
      }
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      RunPieces();
      busy.fetch_sub(1, std::memory_order_release);
    }
  }

  void Start() {
    {
      std::lock_guard lock(mutex);
      epoch.fetch_add(1, std::memory_order_release);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : impl_(new Impl) {
  for (int i = 1; i < threads; ++i) impl_->workers.emplace_back([impl = impl_.get()] { impl->Work(); });
}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true, std::memory_order_release);
  impl_->Start();
  for (std::thread& t : impl_->workers) t.join();
}

int ThreadPool::threads() const { return int(impl_->workers.size()) + 1; }

void ThreadPool::For(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  if (impl_->workers.empty() || inside_loop || n <= grain) {
    body(0, n);
    return;
  }
  // A few pieces per thread even out their speed.
  constexpr int64_t kPiecesPerThread = 4;
  Impl& s = *impl_;
  s.body = &body;
  s.n = n;
  s.piece = std::max(grain, (n + kPiecesPerThread * threads() - 1) / (kPiecesPerThread * threads()));
  s.next.store(0, std::memory_order_relaxed);
  s.error = nullptr;
  s.busy.store(int(s.workers.size()), std::memory_order_relaxed);
  s.Start();
  s.RunPieces();
  for (int i = 0; s.busy.load(std::memory_order_acquire) != 0; ++i) {
    i < kSpins ? Pause() : std::this_thread::yield();
  }
  if (s.error) std::rethrow_exception(s.error);
}

int ThreadPool::AvailableProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
                                                           : int(std::thread::hardware_concurrency());
  // cgroup v2 quota: "max 100000" or "150000 100000" (microseconds per period).
  if (std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    long long quota = 0, period = 0;
    if (std::fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
      count = std::min<int>(count, int((quota + period - 1) / period));
    }
    std::fclose(f);
  }
  return std::max(count, 1);
}

}  // namespace vexil
