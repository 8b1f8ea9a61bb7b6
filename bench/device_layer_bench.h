// `vexil bench layer --device`: the same rows as on the CPU (bench/layer_bench.h), for an accelerator.
#pragma once

#include "bench/layer_bench.h"

namespace vexil {

// A row's time is that of a graph with the whole step, replayed between passes over memory that leave nothing of it in
// the caches. The time of a kernel is that between events around its calls in a step that is launched call by call:
// calls then do not overlap as they do in the graph, so that the kernels' times add up to more than the row's.
// `options.seconds` is ignored: a few dozen replays are enough.
Status BenchLayersOnDevice(DeviceId device, const LayerBenchOptions& options,
                           const std::function<void(const LayerBenchRow&)>& on_row,
                           const std::function<void(const std::string&)>& on_progress,
                           const std::atomic<bool>& cancelled);

}  // namespace vexil
