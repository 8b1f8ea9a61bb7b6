// `vexil bench model`: time of decode steps by batch size and context, and of prompts by length.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace vexil {

struct ModelBenchOptions {
  std::vector<int64_t> batches = {1, 4, 16};         // sequences of a decode step
  std::vector<int64_t> contexts = {128, 512, 2048};  // tokens before the first decode step
  std::vector<int64_t> prompts = {512, 2048};        // lengths; none: no prompts are measured
  int64_t steps = 64;                                // decode steps that are timed
};

struct ModelBenchRow {
  const char* what = "";           // "decode": a step of `batch` sequences; "prefill": a prompt of `context`
  int64_t batch = 1, context = 0;  // tokens; of a decode step: those before the first
  double seconds = 0, spread = 0;  // the median, and (90th - 10th percentile) / median
  std::string skipped = {};        // why there are no figures: the state does not fit into memory

  double tokens_per_s() const { return double(what[0] == 'd' ? batch : context) / seconds; }
};

// The sequences of a decode row have a computed context in memory of their own: one is read, the others are its copies.
// They go on with different tokens. Greedy sampling is part of a step. Prompts are read as the engine does it, in steps
// of EngineOptions::max_step_tokens. `engine` says how to run; the number of sequences, and the context
// where it is 0, are set to what the lists need.
// Errors: of the model; kInvalidArgument for a list beyond the context of the model or of `engine`; kCancelled.
Status BenchModel(const Model& model, EngineOptions engine, const ModelBenchOptions& options,
                  const std::function<void(const ModelBenchRow&)>& on_row,
                  const std::function<void(const std::string&)>& on_progress, const std::atomic<bool>& cancelled);

}  // namespace vexil
