// `vexil bench layer`: one whole layer of each kind, and the head, at V4-Flash's widths with random weights.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench/limits.h"
#include "bench/timing.h"

namespace vexil {

struct LayerBenchOptions {
  int64_t tokens = 1;                // of one step
  int64_t context = 4096;            // tokens of the sequence before the step
  double seconds = 1.5;              // of measuring each kind
  std::vector<std::string> without;  // ids of kernels that are passed over
};

// Time and floors of one op within a step, per step.
struct OpShare {
  double seconds = 0, floor = 0, bytes = 0, flops = 0;
  double calls = 0;
};

struct LayerBenchRow {
  std::string name;
  int64_t layers = 1;  // of this kind in the model
  int64_t tokens = 1, context = 0;
  Timing timing;
  double floor = 0;                        // sum of the floors of its op calls
  std::map<std::string, OpShare> kernels;  // by kernel
  double read_bandwidth = 0;

  double ratio() const { return timing.median_s > 0 ? floor / timing.median_s : 0; }
  Json ToJson() const;
};

// Every kind and the head. kCancelled after Ctrl-C; kResourceExhausted without the memory.
Status BenchLayers(ThreadPool& threads, MachineLimits& limits, const LayerBenchOptions& options,
                   const std::function<void(const LayerBenchRow&)>& on_row,
                   const std::function<void(const std::string&)>& on_progress, const std::atomic<bool>& cancelled);

}  // namespace vexil
