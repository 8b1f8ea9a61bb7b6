// Token ids in, token ids out: runs a list of requests as one ragged batch.
//
// Knows no text. Not thread-safe: one Generate at a time; Cancel() may be called from any thread or a signal handler.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/decode_graphs.h"
#include "engine/sampler.h"
#include "model/v4/model.h"

namespace vexil {

struct Request {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  int64_t max_tokens = 256;       // generated at most
  std::vector<int32_t> stop_ids;  // generating one of these ends the request; it is part of the output
  // Keep the state behind the prompt, so that a later prompt that continues it starts there.
  bool keep_prompt = false;
};

enum class FinishReason : uint8_t {
  kStop,       // a stop id, or on_token said so
  kLength,     // max_tokens
  kContext,    // the context is full
  kCancelled,  // Cancel()
  kError,      // this request could not run; see Completion::error
};
const char* NameOf(FinishReason reason);

struct Completion {
  std::vector<SampledToken> tokens;
  FinishReason finish = FinishReason::kLength;
  std::string error;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;       // of the prompt, taken from a kept state
  double first_token_seconds = 0;  // from the start of Generate
  double last_token_seconds = 0;
};

struct EngineOptions {
  int threads = 0;              // 0: as many as this process may use
  int64_t max_sequences = 32;   // in flight at once
  int64_t max_step_tokens = 0;  // of all sequences in one step; 0: 512, on an accelerator 4096 or 8192
  int64_t max_context = 0;      // tokens of one sequence; 0: what the model allows, up to 1M
  int64_t kept_prompts = 4;     // states held for Request::keep_prompt
  KernelChoice kernels = KernelChoice::kBest;
  bool pin_threads = false;      // bind each thread to a processor of its own (ThreadPool::Options)
  bool graphs = true;            // replay decode steps on accelerators (engine/decode_graphs.h)
  CpuIsa cpu_isa = kBestCpuIsa;  // kernels that need more are not used
  OpTrace* trace = nullptr;      // told of every op call
};

struct EngineEvents {
  // A token of request `index`; false ends that request with kStop. May be empty.
  std::function<bool(size_t index, const SampledToken& token)> on_token;
  // Prompt tokens processed so far and in all, over all requests; after each step that has some. May be empty.
  std::function<void(int64_t done, int64_t total)> on_prefill;
  // Request `index` has its Completion. May be empty.
  std::function<void(size_t index, const Completion& completion)> on_finish;
};

class Engine {
 public:
  // `model` must outlive the engine. Runs where the model's weights are; on an accelerator the state of sequences takes
  // what memory is left there, up to what the options ask for.
  static Result<std::unique_ptr<Engine>> Create(const Model& model, const EngineOptions& options);
  ~Engine();

  // Why a request cannot run; empty: it can.
  std::string Refuse(const Request& request) const;

  // One Completion per request, in order. A request that cannot run fails alone (FinishReason::kError).
  // Errors: only what stops everything.
  Result<std::vector<Completion>> Generate(std::span<const Request> requests, const EngineEvents& events = {});

  // One greedy token for each sequence after `last`, one token each: a step as Generate makes it, for measuring.
  Result<std::vector<int32_t>> DecodeStep(std::span<SequenceState> sequences, std::span<const int32_t> last);

  // Ends the Generate that is running, or the next, after the current step.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  const Context& context() const { return ctx_; }
  StatePool& pool() { return *pool_; }
  int64_t max_context() const { return max_context_; }
  int64_t max_step_tokens() const { return options_.max_step_tokens; }

 private:
  struct Running;
  struct Kept;
  Engine(const Model& model, const EngineOptions& options);

  Status Start(const Request& request, size_t index, std::vector<Running>& running, Completion& completion);
  Status RunStep(std::vector<Running>& running, std::span<Completion> completions, const EngineEvents& events);
  void Take(Running& r, Completion& c, SampledToken token, const EngineEvents& events);
  Status KeepPrompt(Running& r);
  double Seconds() const;

  const Model& model_;
  EngineOptions options_;
  int64_t max_context_ = 0;
  Result<int64_t> Pages(int64_t sequences) const;
  // The logits of the rows that want some, in the memory of the context, until the next step.
  Result<MutTensorView> Logits(std::span<const SequenceChunk> chunks, int64_t rows);

  ThreadPool threads_;
  Arena workspace_;
  Context ctx_;
  std::unique_ptr<StatePool> pool_;
  std::unique_ptr<DecodeGraphs> graphs_;  // null on the CPU, or where experts are in host memory
  std::vector<Kept> kept_;
  std::atomic<bool> cancelled_{false};
  int64_t start_ns_ = 0;
  int64_t prefill_done_ = 0, prefill_total_ = 0;
};

}  // namespace vexil
