#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <new>

#include "ops/sample/sample.h"

namespace vexil {
namespace {

constexpr int64_t kLongestContext = int64_t(1) << 20;
constexpr int64_t kLeastScratch = int64_t(512) << 20;
constexpr int64_t kAmpleMemory = int64_t(32) << 30;

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Each step of a prompt reads nearly all experts, so long steps are faster; their scratch is a share of what is free.
int64_t StepTokens(const Device* accelerator) {
  if (accelerator == nullptr) return 512;
  return accelerator->FreeBytes() >= kAmpleMemory ? 8192 : 4096;
}

}  // namespace

const char* NameOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "";
}

// A request that has a state.
struct Engine::Running {
  size_t index;
  const Request* request;
  SequenceState state;
  Sampler sampler;
  std::vector<int32_t> pending;  // tokens not yet in the state: the rest of the prompt, or the last sampled one
  size_t next = 0;               // first of them that no step has had
  bool finished = false;

  // How many tokens the next step may take. A prompt that is kept stops one token short first: the last token of a
  // chat prompt opens the answer and differs when the conversation goes on.
  int64_t Wanted() const {
    const int64_t left = int64_t(pending.size() - next);
    return request->keep_prompt && in_prompt && left > 1 ? left - 1 : left;
  }
  bool in_prompt = true;
};

struct Engine::Kept {
  std::vector<int32_t> tokens;
  SequenceState state;
};

Engine::Engine(const Model& model, const EngineOptions& options)
    : model_(model),
      options_(options),
      threads_(options.threads > 0 ? options.threads : ThreadPool::AvailableProcessors(), {.pin = options.pin_threads}),
      workspace_(model.device()) {
  if (Device* device = model.device()) {
    ctx_.device = device->caps().id;
    ctx_.accelerator = device;
    ctx_.stream = device->stream();
  }
  if (options_.max_step_tokens <= 0) options_.max_step_tokens = StepTokens(ctx_.accelerator);
  ctx_.threads = &threads_;
  ctx_.workspace = &workspace_;
  ctx_.choice = options.kernels;
  ctx_.isa_limit = options.cpu_isa;
  ctx_.trace = options.trace;
  const int64_t positions = model.config().max_positions;
  max_context_ = std::min({positions > 0 ? positions : kLongestContext, kLongestContext,
                           options.max_context > 0 ? options.max_context : kLongestContext});
}

Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Create(const Model& model, const EngineOptions& options) {
  std::unique_ptr<Engine> e(new Engine(model, options));
  const int64_t sequences = options.max_sequences + options.kept_prompts;
  VX_ASSIGN(const int64_t pages, e->Pages(sequences));
  VX_ASSIGN(e->pool_,
            StatePool::Create(StateLayout::For(model.config(), model.numerics()), sequences, pages, model.device()));
  // A graph cannot ask the host for experts.
  const bool graphs = options.graphs && model.device() && model.expert_cache() == nullptr;
  if (graphs) e->graphs_ = std::make_unique<DecodeGraphs>(model, e->ctx_, *e->pool_);
  return e;
}

// Pages for every sequence's longest context; on an accelerator as many of them as fit beside the scratch of a step.
Result<int64_t> Engine::Pages(int64_t sequences) const {
  const int64_t wanted = sequences * ((max_context_ + kPageTokens - 1) / kPageTokens + 1);
  const StateLayout layout = StateLayout::For(model_.config(), model_.numerics());
  if (model_.device() == nullptr || layout.PageBytes() == 0) return wanted;
  const int64_t free = model_.device()->FreeBytes(), scratch = std::max(free / 8, kLeastScratch);
  const int64_t pages = std::min(wanted, (free - scratch - sequences * layout.TailBytes()) / layout.PageBytes());
  if (pages >= 1) return pages;
  return ResourceExhausted(
      fmt::format("{}: {} MiB are left beside the weights, too few for the state of {} sequences; use fewer",
                  NameOf(ctx_.device), free >> 20, sequences));
}

double Engine::Seconds() const { return double(NowNs() - start_ns_) * 1e-9; }

std::string Engine::Refuse(const Request& r) const {
  if (Status s = r.sampling.Check(); !s.ok()) return std::string(s.message());
  if (r.prompt.empty()) return "the prompt is empty, expected at least one token";
  if (int64_t(r.prompt.size()) >= max_context_) {
    return fmt::format("the prompt has {} tokens, expected fewer than the context of {}", r.prompt.size(),
                       max_context_);
  }
  for (int32_t id : r.prompt) {
    if (id < 0 || id >= model_.config().vocab_size) {
      return fmt::format("token id {}: expected 0 to {}", id, model_.config().vocab_size - 1);
    }
  }
  if (r.max_tokens < 1) return fmt::format("max_tokens: found {}, expected at least 1", r.max_tokens);
  return {};
}

Status Engine::Start(const Request& request, size_t index, std::vector<Running>& running, Completion& c) {
  const Kept* best = nullptr;
  for (const Kept& k : kept_) {
    const bool prefix =
        k.tokens.size() < request.prompt.size() && std::equal(k.tokens.begin(), k.tokens.end(), request.prompt.begin());
    if (prefix && (best == nullptr || k.tokens.size() > best->tokens.size())) best = &k;
  }
  const size_t reused = best ? best->tokens.size() : 0;
  Result<SequenceState> state = best ? pool_->Fork(best->state) : pool_->NewSequence();
  if (!state.ok()) return std::move(state).TakeError();
  c.prompt_tokens = int64_t(request.prompt.size());
  c.reused_tokens = int64_t(reused);
  prefill_done_ += int64_t(reused);
  running.push_back({index,
                     &request,
                     *std::move(state),
                     Sampler(request.sampling, request.prompt),
                     {request.prompt.begin() + int64_t(reused), request.prompt.end()}});
  return {};
}

// Saves the state of a prompt that is one token short of complete.
Status Engine::KeepPrompt(Running& r) {
  std::vector<int32_t> tokens(r.request->prompt.begin(), r.request->prompt.end() - 1);
  for (const Kept& k : kept_) {
    if (k.tokens == tokens) return {};
  }
  if (options_.kept_prompts < 1) return {};
  if (int64_t(kept_.size()) == options_.kept_prompts) {
    pool_->Free(kept_.front().state);
    kept_.erase(kept_.begin());
  }
  VX_ASSIGN(SequenceState copy, pool_->Fork(r.state));
  kept_.push_back({std::move(tokens), std::move(copy)});
  return {};
}

void Engine::Take(Running& r, Completion& c, SampledToken token, const EngineEvents& events) {
  const int32_t id = token.token;
  r.sampler.Accept(id);
  c.last_token_seconds = Seconds();
  if (c.tokens.empty()) c.first_token_seconds = c.last_token_seconds;
  c.tokens.push_back(std::move(token));
  const bool stop_id =
      std::find(r.request->stop_ids.begin(), r.request->stop_ids.end(), id) != r.request->stop_ids.end();
  const bool wanted = !events.on_token || events.on_token(r.index, c.tokens.back());
  r.finished = true;
  if (stop_id || !wanted) {
    c.finish = FinishReason::kStop;
  } else if (int64_t(c.tokens.size()) >= r.request->max_tokens) {
    c.finish = FinishReason::kLength;
  } else if (r.state.length + 1 >= max_context_) {
    c.finish = FinishReason::kContext;
  } else {
    r.finished = false;
    r.pending.assign(1, id);
    r.next = 0;
  }
}

// Every sequence that decodes gets its token in; what is left of the budget goes to prompts, first come first served.
Status Engine::RunStep(std::vector<Running>& running, std::span<Completion> completions, const EngineEvents& events) {
  std::vector<SequenceChunk> chunks;
  std::vector<Running*> owners, sampled;
  int64_t budget = options_.max_step_tokens;
  const auto add = [&](Running& r) {
    const int64_t count = std::min(r.Wanted(), budget);
    if (count == 0) return;
    const bool completes = r.next + size_t(count) == r.pending.size();
    chunks.push_back({&r.state, std::span(r.pending).subspan(r.next, size_t(count)),
                      completes ? LogitRows::kLast : LogitRows::kNone});
    owners.push_back(&r);
    if (completes) sampled.push_back(&r);
    budget -= count;
  };
  for (Running& r : running) {
    if (!r.in_prompt) add(r);
  }
  for (Running& r : running) {
    if (r.in_prompt) add(r);
  }

  Arena::Scope scope(workspace_);
  VX_ASSIGN(const MutTensorView logits, Logits(chunks, int64_t(sampled.size())));

  bool prefilled = false;
  for (size_t i = 0; i < owners.size(); ++i) {
    Running& r = *owners[i];
    r.next += chunks[i].tokens.size();
    if (!r.in_prompt) continue;
    prefilled = true;
    prefill_done_ += int64_t(chunks[i].tokens.size());
    if (r.request->keep_prompt && r.next + 1 == r.pending.size()) VX_TRY(KeepPrompt(r));
    if (r.next == r.pending.size()) r.in_prompt = false;
  }
  if (prefilled && events.on_prefill) events.on_prefill(prefill_done_, prefill_total_);

  if (sampled.empty()) return {};
  std::vector<Sampler*> samplers;
  for (Running* r : sampled) samplers.push_back(&r->sampler);
  VX_ASSIGN(std::vector<SampledToken> tokens, SampleTokens(ctx_, logits, samplers));
  for (size_t i = 0; i < sampled.size(); ++i) {
    Completion& c = completions[sampled[i]->index];
    if (tokens[i].token != Sample::kNoToken) {
      Take(*sampled[i], c, std::move(tokens[i]), events);
    } else {
      sampled[i]->finished = true;
      c.finish = FinishReason::kError;
      c.error = "the model's logits are no numbers or infinite; its weights are damaged";
    }
  }
  return {};
}

Result<MutTensorView> Engine::Logits(std::span<const SequenceChunk> chunks, int64_t rows) {
  if (graphs_ && DecodeGraphs::Serves(chunks)) return graphs_->Step(chunks);
  const MutTensorView logits = workspace_.NewTensor(DType::kF32, {rows, model_.config().vocab_size});
  VX_TRY(model_.Step(ctx_, *pool_, chunks, logits));
  return logits;
}

Result<std::vector<int32_t>> Engine::DecodeStep(std::span<SequenceState> sequences, std::span<const int32_t> last) {
  SamplingParams greedy;
  greedy.temperature = 0;
  std::vector<SequenceChunk> chunks;
  std::vector<Sampler> samplers(sequences.size(), Sampler(greedy, {}));
  std::vector<Sampler*> pointers;
  for (size_t i = 0; i < sequences.size(); ++i) {
    chunks.push_back({&sequences[i], last.subspan(i, 1), LogitRows::kLast});
    pointers.push_back(&samplers[i]);
  }
  Arena::Scope scope(workspace_);
  VX_ASSIGN(const MutTensorView logits, Logits(chunks, int64_t(chunks.size())));
  VX_ASSIGN(const std::vector<SampledToken> tokens, SampleTokens(ctx_, logits, pointers));
  std::vector<int32_t> ids;
  for (const SampledToken& t : tokens) ids.push_back(t.token);
  return ids;
}

Result<std::vector<Completion>> Engine::Generate(std::span<const Request> requests, const EngineEvents& events) {
  start_ns_ = NowNs();
  prefill_done_ = prefill_total_ = 0;
  std::vector<Completion> completions(requests.size());
  std::vector<size_t> waiting;  // last is next
  for (size_t i = requests.size(); i-- > 0;) {
    completions[i].error = Refuse(requests[i]);
    if (completions[i].error.empty()) {
      waiting.push_back(i);
      prefill_total_ += int64_t(requests[i].prompt.size());
    } else {
      completions[i].finish = FinishReason::kError;
      if (events.on_finish) events.on_finish(i, completions[i]);
    }
  }
  std::vector<Running> running;
  running.reserve(size_t(options_.max_sequences));
  Status status;
  while (status.ok() && (!running.empty() || !waiting.empty())) {
    while (!waiting.empty() && int64_t(running.size()) < options_.max_sequences && status.ok()) {
      const size_t i = waiting.back();
      waiting.pop_back();
      status = Start(requests[i], i, running, completions[i]);
    }
    if (cancelled_.load(std::memory_order_relaxed)) break;
    if (status.ok()) {
      try {
        status = RunStep(running, completions, events);
      } catch (const std::bad_alloc&) {
        status = ResourceExhausted("out of memory in a step; use fewer sequences or a shorter context");
      }
    }
    std::erase_if(running, [&](Running& r) {
      if (!r.finished) return false;
      pool_->Free(r.state);
      if (events.on_finish) events.on_finish(r.index, completions[r.index]);
      return true;
    });
  }
  const bool cancelled = cancelled_.exchange(false, std::memory_order_relaxed);
  for (Running& r : running) {
    pool_->Free(r.state);
    completions[r.index].finish = FinishReason::kCancelled;
    if (cancelled && events.on_finish) events.on_finish(r.index, completions[r.index]);
  }
  for (size_t i : waiting) completions[i].finish = FinishReason::kCancelled;
  VX_TRY(std::move(status));
  return completions;
}

}  // namespace vexil
