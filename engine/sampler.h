// From a row of logits to a token: penalties, log-probabilities, the draw.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "ops/op.h"

namespace vexil {

// How one request samples. The order is: penalties, temperature, top-k, top-p, min-p (ops/sample).
struct SamplingParams {
  float temperature = 1.0f;         // 0: greedy
  float top_p = 1.0f;               // 1: off
  int32_t top_k = 0;                // 0: off
  float min_p = 0.0f;               // 0: off
  float repetition_penalty = 1.0f;  // > 1 makes every token of prompt and output less likely
  float presence_penalty = 0.0f;    // subtracted once from tokens of the output
  float frequency_penalty = 0.0f;   // subtracted per occurrence in the output
  uint64_t seed = 0;
  int32_t top_logprobs = -1;  // -1: no log-probabilities; n: of the token and the n likeliest

  // kInvalidArgument "top_p: found 1.5, expected 0 < top_p <= 1" and the like.
  Status Check() const;
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // natural logarithm, of the model's distribution before penalties and temperature
};

struct SampledToken {
  int32_t token = 0;              // Sample::kNoToken: the logits are damaged (ops/sample)
  float logprob = 0;              // 0 unless asked for
  std::vector<TokenLogprob> top;  // likeliest first
};

// The sampling state of one request. Draw i depends on the seed, i and the logits alone.
class Sampler {
 public:
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt);

  const SamplingParams& params() const { return params_; }
  bool has_penalties() const;
  // Applies the penalties to a row of logits, in place.
  void Penalize(std::span<float> logits) const;
  float NextUniform();
  // Counts a token of the output.
  void Accept(int32_t token) { ++output_counts_[token]; }

 private:
  SamplingParams params_;
  uint64_t draws_ = 0;
  std::unordered_map<int32_t, int32_t> output_counts_;
  std::unordered_map<int32_t, int32_t> prompt_counts_;  // filled only for a repetition penalty
};

// One token per row of logits (F32 [n, V], changed by penalties), sampler i for row i. The caller accepts the tokens.
// Logits of an accelerator are sampled there and waited for, but for rows with penalties or log-probabilities: with one
// of those in the step all rows come to the host.
Result<std::vector<SampledToken>> SampleTokens(const Context& ctx, MutTensorView logits,
                                               std::span<Sampler* const> samplers);

// Log-probability of every token in `logits` reduced to one target and the likeliest `top`.
SampledToken Logprobs(std::span<const float> logits, int32_t target, int32_t top);

}  // namespace vexil
