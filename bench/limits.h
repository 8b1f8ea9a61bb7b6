// What this machine can do, measured: the ceilings that benchmarks are compared with.
//
// Reading: all threads stream through a buffer larger than any cache. Computing: dot products of each instruction
// class on registers that never leave the core. Both are taken again around every measurement, since a shared machine
// does not give the same from one second to the next.
#pragma once

#include <span>
#include <string_view>

#include "base/host_memory.h"
#include "base/thread_pool.h"
#include "testing/conformance.h"

namespace vexil {

// An instruction class with a loop that measures it.
struct PeakLoop {
  std::string_view name;  // "vdpbf16ps"
  // Units that it serves.
  bool f32, bf16;
  bool (*supported)();
  // Runs about `flops` operations on the calling thread; the sum keeps the loop from being dropped.
  float (*run)(double flops);
};
// The classes of this architecture, the plainest first.
std::span<const PeakLoop> PeakLoops();

class MachineLimits {
 public:
  // `bytes` of memory to read; must exceed the last cache.
  MachineLimits(ThreadPool& threads, size_t bytes);

  // Bytes per second of one pass over the buffer.
  double ReadBandwidth();
  struct ComputePeak {
    std::string_view name;  // of the loop
    double flops = 0;       // per second
  };
  // The fastest loop whose arithmetic serves the unit: BF16 products are exact in F32, so F32 loops serve both.
  ComputePeak Peak(ComputeUnit unit);
  // Operations per second of one loop.
  double Peak(const PeakLoop& loop);

 private:
  ThreadPool& threads_;
  size_t bytes_;
  HostMemory buffer_;
};

}  // namespace vexil
