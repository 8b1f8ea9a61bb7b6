#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/processors.h"

namespace vexil {
namespace {

thread_local bool inside_loop = false;

// Spinning a little catches the next loop of the same step without a system call; a step's loops are
// a few microseconds apart. A pause takes some 40 ns on current processors.
constexpr int kSpins = 1500;

// A few pieces per thread even out their speed.
constexpr int64_t kPiecesPerThread = 4;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Whether a loop takes workers in, how many are in it, and which loop it is: one word, so that joining is one step.
constexpr uint64_t kActiveMask = 0xffff, kOpen = 1 << 16;
constexpr int kEpochShift = 32;
constexpr uint32_t EpochOf(uint64_t state) { return uint32_t(state >> kEpochShift); }

}  // namespace

struct ThreadPool::Impl {
  // A thread's share of the loop, on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  std::vector<std::thread> workers;
  std::vector<Share> shares;
  int spins = kSpins;
  cpu_set_t callers_processors;
  bool pinned = false;

  std::atomic<uint64_t> state{0};
  std::atomic<uint32_t> wake{0};  // the epoch again: workers sleep on it
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};

  // The loop that is running. Written while no worker is in; read by those that joined.
  const FunctionRef<void(int64_t, int64_t)>* body = nullptr;
  int64_t piece = 1;
  std::mutex error_mutex;
  std::exception_ptr error;

  explicit Impl(int threads) : shares(size_t(threads)) {
    if (threads > vexil::AvailableProcessors()) spins = 0;
  }

  void Divide(int64_t n, int64_t grain) {
    const int64_t threads = int64_t(shares.size());
    piece = std::max(grain, (n + kPiecesPerThread * threads - 1) / (kPiecesPerThread * threads));
    // Shares are whole pieces, so that only the last piece of all is short.
    const int64_t pieces = (n + piece - 1) / piece;
    for (int64_t t = 0; t < threads; ++t) {
      shares[size_t(t)].next.store(std::min(n, pieces * t / threads * piece), std::memory_order_relaxed);
      shares[size_t(t)].end = std::min(n, pieces * (t + 1) / threads * piece);
    }
  }

  void Fail() {
    std::lock_guard lock(error_mutex);
    if (!error) error = std::current_exception();
    for (Share& s : shares) s.next.store(s.end, std::memory_order_relaxed);
  }

  // Own share first, then what the others have left.
  void RunPieces(size_t self) {
    inside_loop = true;
    for (size_t i = 0; i < shares.size(); ++i) {
      Share& s = shares[(self + i) % shares.size()];
      while (s.next.load(std::memory_order_relaxed) < s.end) {
        const int64_t begin = s.next.fetch_add(piece, std::memory_order_relaxed);
        if (begin >= s.end) break;
        try {
          (*body)(begin, std::min(begin + piece, s.end));
        } catch (...) {
          Fail();
        }
      }
    }
    inside_loop = false;
  }

  void AwaitLoop(uint32_t seen) {
    for (int i = 0; i < spins; ++i) {
      if (wake.load(std::memory_order_acquire) != seen) return;
      Pause();
    }
    sleepers.fetch_add(1);
    wake.wait(seen);
    sleepers.fetch_sub(1);
  }

  void Work(size_t self, int processor) {
    if (processor >= 0) PinThisThread(processor);
    uint32_t seen = 0;
    for (;;) {
      AwaitLoop(seen);
      if (stop.load(std::memory_order_acquire)) return;
      uint64_t s = state.load(std::memory_order_acquire);
      while ((s & kOpen) && EpochOf(s) != seen && !state.compare_exchange_weak(s, s + 1, std::memory_order_acq_rel)) {
      }
      const bool joined = (s & kOpen) && EpochOf(s) != seen;
      seen = EpochOf(s);
      if (!joined) continue;
      RunPieces(self);
      state.fetch_sub(1, std::memory_order_release);
    }
  }

  void WakeWorkers() {
    wake.fetch_add(1);
    if (sleepers.load() > 0) wake.notify_all();
  }

  void Pin() {
    const std::vector<int> processors = AllowedProcessors();
    if (processors.size() < shares.size()) return;
    pinned = sched_getaffinity(0, sizeof(callers_processors), &callers_processors) == 0;
    if (pinned) PinThisThread(processors[0]);
  }
};

ThreadPool::ThreadPool(int threads, Options options) : impl_(new Impl(std::max(threads, 1))) {
  const std::vector<int> processors = AllowedProcessors();
  if (options.pin) impl_->Pin();
  for (size_t i = 1; i < impl_->shares.size(); ++i) {
    impl_->workers.emplace_back(
        [impl = impl_.get(), i, cpu = impl_->pinned ? processors[i] : -1] { impl->Work(i, cpu); });
  }
}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true, std::memory_order_release);
  impl_->WakeWorkers();
  for (std::thread& t : impl_->workers) t.join();
  if (impl_->pinned) (void)sched_setaffinity(0, sizeof(impl_->callers_processors), &impl_->callers_processors);
}

int ThreadPool::threads() const { return int(impl_->shares.size()); }

void ThreadPool::For(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  if (impl_->workers.empty() || inside_loop || n <= grain) {
    body(0, n);
    return;
  }
  Impl& s = *impl_;
  s.body = &body;
  s.error = nullptr;
  s.Divide(n, grain);
  const uint64_t epoch = EpochOf(s.state.load(std::memory_order_relaxed)) + 1;
  s.state.store(uint64_t(uint32_t(epoch)) << kEpochShift | kOpen, std::memory_order_release);
  s.WakeWorkers();
  s.RunPieces(0);
  s.state.fetch_and(~kOpen, std::memory_order_acq_rel);  // nobody joins any more
  for (int i = 0; (s.state.load(std::memory_order_acquire) & kActiveMask) != 0; ++i) {
    i < s.spins ? Pause() : std::this_thread::yield();
  }
  if (s.error) std::rethrow_exception(s.error);
}

int ThreadPool::AvailableProcessors() { return vexil::AvailableProcessors(); }

}  // namespace vexil
