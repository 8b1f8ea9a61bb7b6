// The templates of OpBench, for the generated file of each op.
#pragma once

#include <deque>

#include "bench/op_bench.h"

namespace vexil {

template <class Op>
void OpBench::RunOp() {
  for (const auto& c : Conformance<Op>::Cases(Tier::kPerf)) {
    if (cancelled_.load()) return;
    const std::string shape = Conformance<Op>::Describe(c);
    if (shape.find(options_.shape) != std::string::npos) RunCase<Op>(c, shape);
  }
}

template <class Op>
void OpBench::RunCase(const typename Conformance<Op>::Case& c, const std::string& shape) {
  Arena workspace;
  Context ctx;
  ctx.threads = &threads_;
  ctx.workspace = &workspace;
  TestArena arena(1, TestArena::ForTiming());
  const typename Op::Args args = Conformance<Op>::Build(c, arena);
  const bool best_only = options_.kernel.empty(), all = options_.kernel == "all";
  for (const Kernel<Op>& k : Kernels<Op>()) {
    if (k.device != DeviceKind::kCpu || !k.supports(ctx, args)) continue;
    if (!best_only && !all && k.id.find(options_.kernel) == std::string_view::npos) continue;
    ++matched_;
    TimeKernel<Op>(k, c, shape);
    if (best_only || cancelled_.load()) return;
  }
}

template <class Op>
void OpBench::TimeKernel(const Kernel<Op>& kernel, const typename Conformance<Op>::Case& c, const std::string& shape) {
  on_progress_(std::string(kernel.id) + " " + shape);
  // Copies of the case in memory of their own, so that a run finds nothing of the run before it in a cache.
  constexpr size_t kMaxCopies = 4096;
  std::deque<TestArena> arenas;
  std::vector<typename Op::Args> copies;
  size_t bytes = 0;
  for (const double start = NowSeconds(); copies.size() < kMaxCopies;) {
    arenas.emplace_back(copies.size() + 1, TestArena::ForTiming());
    copies.push_back(Conformance<Op>::Build(c, arenas.back()));
    bytes += arenas.back().bytes();
    if (bytes > options_.rotate_bytes || NowSeconds() - start > options_.rotate_seconds || cancelled_.load()) break;
  }
  OpBenchRow row;
  row.op = Op::kName;
  row.kernel = kernel.id;
  row.shape = shape;
  row.cost = Conformance<Op>::Cost(copies[0]);
  row.threads = threads_.threads();
  row.copies = int64_t(copies.size());
  Arena workspace;
  Context ctx;
  ctx.threads = &threads_;
  ctx.workspace = &workspace;
  const double read = limits_.ReadBandwidth(), peak = limits_.Peak(row.cost.unit).flops;
  row.timing = Measure(
      options_.timing,
      [&](int64_t i) {
        const Status s = kernel.run(ctx, copies[size_t(i) % copies.size()]);
        VX_CHECK(s.ok(), "a case of the conformance test does not run");
      },
      [&] { return cancelled_.load(); });
  if (!cancelled_.load()) Finish(row, read, peak);
}

}  // namespace vexil
