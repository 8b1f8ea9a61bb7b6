// `vexil bench ops`: times the perf cases of each op (ops/<op>/cases.h, Tier::kPerf) on each kernel that supports them
// and sets every time against what the machine can do at that moment.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "bench/limits.h"
#include "bench/timing.h"
#include "ops/op.h"

namespace vexil {

struct OpBenchOptions {
  std::string op;      // empty: all; else the op's name
  std::string kernel;  // empty: the first of the list that supports the call; "all"; else a part of the kernel's id
  std::string shape;   // empty: all; else a part of the case's description
  TimingOptions timing;
  size_t rotate_bytes = size_t(1) << 30;  // copies of a case are made until they exceed this
  double rotate_seconds = 3;              // ... or until making them has taken this long
};

struct OpBenchRow {
  std::string op, kernel, shape;
  OpCost cost;
  int threads = 1;
  int64_t copies = 1;
  Timing timing;
  std::string limit;       // "read" or the name of the instruction class
  double limit_value = 0;  // bytes/s or flops/s
  double ratio = 0;        // time at the limit over the time measured

  Json ToJson() const;
};

// What a case took, against the limits measured before and after it.
void SetLimit(OpBenchRow& row, double read_bandwidth, double peak, std::string_view peak_name);

class OpBench {
 public:
  OpBench(ThreadPool& threads, MachineLimits& limits, const OpBenchOptions& options,
          std::function<void(const OpBenchRow&)> on_row, std::function<void(const std::string&)> on_progress,
          const std::atomic<bool>& cancelled)
      : threads_(threads),
        limits_(limits),
        options_(options),
        on_row_(std::move(on_row)),
        on_progress_(std::move(on_progress)),
        cancelled_(cancelled) {}

  // All ops of the list that the options choose. kNotFound when nothing matches, kCancelled after Ctrl-C.
  Status RunAll();

  template <class Op>
  void RunOp();

 private:
  template <class Op>
  void RunCase(const typename Conformance<Op>::Case& c, const std::string& shape);
  template <class Op>
  void TimeKernel(const Kernel<Op>& kernel, const typename Conformance<Op>::Case& c, const std::string& shape);
  void Finish(OpBenchRow& row, double read_before, double peak_before);

  ThreadPool& threads_;
  MachineLimits& limits_;
  const OpBenchOptions& options_;
  std::function<void(const OpBenchRow&)> on_row_;
  std::function<void(const std::string&)> on_progress_;
  const std::atomic<bool>& cancelled_;
  int64_t matched_ = 0;
};

// The cost of a call that ops/op.h's OpTrace saw; zero for an op that is not in the list.
OpCost CostOfCall(std::string_view op, const void* args);
// The bytes of its arguments, which are plain data; 0 for an op that is not in the list.
size_t BytesOfArgs(std::string_view op);

// One of each per op, in generated files of their own.
#define VX_OP(Op, folder)                \
  void BenchOp##Op(OpBench& bench);      \
  OpCost CostOfOp##Op(const void* args); \
  size_t BytesOfOp##Op();                \
  std::string_view NameOfOp##Op();
#include "ops/ops.inc"
#undef VX_OP

}  // namespace vexil
