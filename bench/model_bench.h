// `vexil bench model`: prefill and decode speed of a checkpoint by batch size and context.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "model/v4/model.h"

namespace vexil {

struct ModelBenchOptions {
  std::vector<int64_t> batches = {1, 4, 16};
  std::vector<int64_t> contexts = {128, 512, 2048};
  int64_t chunk = 512;         // tokens of a prefill step
  int64_t decode_tokens = 64;  // per sequence, at least 8 steps
};

struct ModelBenchRow {
  int64_t batch = 0, context = 0;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;  // of all sequences together
  double decode_spread = 0;        // of a step
};

// Random prompts; greedy decoding. Errors: of the model; kCancelled.
Status BenchModel(const Model& model, ThreadPool& threads, KernelChoice kernels, const ModelBenchOptions& options,
                  const std::function<void(const ModelBenchRow&)>& on_row,
                  const std::function<void(const std::string&)>& on_progress, const std::atomic<bool>& cancelled);

}  // namespace vexil
