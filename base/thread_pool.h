// A fixed set of worker threads that run one parallel loop at a time.
//
//   ThreadPool pool(4);
//   pool.For(rows, 8, [&](int64_t begin, int64_t end) { ... });   // pieces of at least 8 rows
//
// The pieces of a loop are disjoint and cover [0, n); which thread runs which piece is unspecified, so a
// loop whose pieces write disjoint outputs gives the same bits for every thread count.
//
// Each thread starts on its own share of the range, the same share every time (what it touched first stays near it),
// and takes pieces of others when it is done. A worker that sleeps or has lost its processor holds nobody up: the
// loop ends when its pieces are done, not when every worker has looked at it. Workers spin for some tens of
// microseconds after a loop, then sleep; they do not spin when there are more threads than processors.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace vexil {

// A reference to a callable that outlives the call it is passed to.
template <class Signature>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>) FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* o, A... a) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(a...); }) {}
  R operator()(A... a) const { return call_(object_, a...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

class ThreadPool {
 public:
  struct Options {
    // Binds each thread, the one that makes the pool included, to a processor of its own until the pool is gone. Only
    // where there are at least as many allowed processors as threads.
    bool pin = false;
  };

  // `threads` counts the calling thread: 1 starts no worker. Values below 1 mean 1.
  explicit ThreadPool(int threads) : ThreadPool(threads, Options()) {}
  ThreadPool(int threads, Options options);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Runs body(begin, end) over pieces of [0, n) with at least `grain` items each (the last may be shorter).
  // Returns when all pieces are done. Calls from inside a body run serially. The first exception that a
  // piece throws is rethrown here after the loop has stopped.
  void For(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body);

  // Processors this process may use (scheduling affinity and cgroup quota), at least 1.
  static int AvailableProcessors();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vexil
