#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "ops/sample/sample.h"

namespace vexil {
namespace {

Status Expect(bool ok, const char* name, double found, const char* expected) {
  if (ok) return {};
  return InvalidArgument(fmt::format("{}: found {:g}, expected {}", name, found, expected));
}

}  // namespace

Status SamplingParams::Check() const {
  VX_TRY(Expect(temperature >= 0 && temperature <= 100, "temperature", temperature, "0 to 100"));
  VX_TRY(Expect(top_p > 0 && top_p <= 1, "top_p", top_p, "a number above 0 and up to 1"));
  VX_TRY(Expect(top_k >= 0, "top_k", top_k, "0 (off) or more"));
  VX_TRY(Expect(min_p >= 0 && min_p <= 1, "min_p", min_p, "0 to 1"));
  VX_TRY(Expect(repetition_penalty > 0 && repetition_penalty <= 100, "repetition_penalty", repetition_penalty,
                "a number above 0 and up to 100"));
  VX_TRY(Expect(std::abs(presence_penalty) <= 100, "presence_penalty", presence_penalty, "-100 to 100"));
  VX_TRY(Expect(std::abs(frequency_penalty) <= 100, "frequency_penalty", frequency_penalty, "-100 to 100"));
  return Expect(top_logprobs >= -1 && top_logprobs <= 100, "top_logprobs", top_logprobs, "0 to 100");
}

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt) : params_(params) {
  if (params.repetition_penalty != 1.0f) {
    for (int32_t t : prompt) ++prompt_counts_[t];
  }
}

bool Sampler::has_penalties() const {
  return params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f || params_.frequency_penalty != 0.0f;
}

void Sampler::Penalize(std::span<float> logits) const {
  const auto repeat = [&](int32_t token) {
    float& v = logits[size_t(token)];
    v = v > 0 ? v / params_.repetition_penalty : v * params_.repetition_penalty;
  };
  for (const auto& [token, count] : prompt_counts_) repeat(token);
  for (const auto& [token, count] : output_counts_) {
    if (!prompt_counts_.contains(token)) repeat(token);
    logits[size_t(token)] -= params_.presence_penalty + params_.frequency_penalty * float(count);
  }
}

float Sampler::NextUniform() { return RandomUniform(params_.seed, draws_++); }

SampledToken Logprobs(std::span<const float> logits, int32_t target, int32_t top) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float v : logits) sum += std::exp(double(v) - double(max));
  const double log_sum = double(max) + std::log(sum);
  const auto logprob = [&](int32_t t) { return float(double(logits[size_t(t)]) - log_sum); };
  SampledToken s{target, logprob(target), {}};
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min<int64_t>(top, int64_t(order.size()));
  std::partial_sort(order.begin(), end, order.end(), [&](int32_t a, int32_t b) {
    return logits[size_t(a)] != logits[size_t(b)] ? logits[size_t(a)] > logits[size_t(b)] : a < b;
  });
  for (auto t = order.begin(); t != end; ++t) s.top.push_back({*t, logprob(*t)});
  return s;
}

namespace {

// The parameters of Sample, one value per row, in one block of memory.
struct Columns {
  MutTensorView temperature, top_p, min_p, uniform, top_k;
  MutTensorView token;

  Columns(void* memory, int64_t n, DeviceId device) {
    char* at = static_cast<char*>(memory);
    const auto next = [&](DType t) {
      const MutTensorView v(at, t, {n}, device);
      at += n * int64_t(sizeof(float));
      return v;
    };
    temperature = next(DType::kF32), top_p = next(DType::kF32), min_p = next(DType::kF32), uniform = next(DType::kF32);
    top_k = next(DType::kI32), token = next(DType::kI32);
  }
  static size_t Bytes(int64_t n) { return size_t(n) * 6 * sizeof(float); }

  void Set(int64_t i, const SamplingParams& p, float draw) const {
    temperature.MutData<float>()[i] = p.temperature;
    top_p.MutData<float>()[i] = p.top_p;
    min_p.MutData<float>()[i] = p.min_p;
    top_k.MutData<int32_t>()[i] = p.top_k;
    uniform.MutData<float>()[i] = draw;
  }
  Sample::Args Args(const TensorView& logits) const {
    return {.logits = logits,
            .temperature = temperature,
            .top_k = top_k,
            .top_p = top_p,
            .min_p = min_p,
            .uniform = uniform,
            .token = token};
  }
};

// Only the parameters go to the device and only the tokens come back.
Status SampleOnDevice(const Context& ctx, const TensorView& logits, std::vector<std::byte>& memory) {
  const int64_t n = logits.dim(0);
  void* at = ctx.workspace->Allocate(memory.size());
  const Columns on_device(at, n, ctx.device);
  VX_TRY(ctx.accelerator->CopyIn(at, memory.data(), memory.size(), ctx.stream));
  VX_TRY(Run<Sample>(ctx, on_device.Args(logits)));
  VX_TRY(ctx.accelerator->CopyOut(memory.data(), at, memory.size(), ctx.stream));
  return ctx.accelerator->Synchronize(ctx.stream);
}

// Whether the sampler changes or reports logits, which is done on the host.
bool NeedsLogits(const Sampler* s) { return s->has_penalties() || s->params().top_logprobs >= 0; }

// The rows in host memory, for a CPU context.
Result<std::vector<SampledToken>> SampleOnHost(const Context& ctx, const TensorView& logits,
                                               std::span<Sampler* const> samplers) {
  std::vector<float> rows(size_t(logits.dims().Count()));
  VX_TRY(ctx.accelerator->CopyOut(rows.data(), logits.raw(), size_t(logits.Bytes()), ctx.stream));
  VX_TRY(ctx.accelerator->Synchronize(ctx.stream));
  Arena workspace;
  Context host;
  host.threads = ctx.threads;
  host.workspace = &workspace;
  host.choice = ctx.choice;
  return SampleTokens(host, MutTensorView(rows.data(), DType::kF32, logits.dims()), samplers);
}

}  // namespace

Result<std::vector<SampledToken>> SampleTokens(const Context& ctx, MutTensorView logits,
                                               std::span<Sampler* const> samplers) {
  const int64_t n = logits.dim(0), v = logits.dim(1);
  VX_CHECK(n == int64_t(samplers.size()), "one sampler per row");
  if (ctx.accelerator && std::any_of(samplers.begin(), samplers.end(), NeedsLogits))
    return SampleOnHost(ctx, logits, samplers);
  Arena::Scope scope(*ctx.workspace);
  std::vector<std::byte> memory(Columns::Bytes(n));
  const Columns columns(memory.data(), n, {});
  std::vector<std::vector<float>> raw(static_cast<size_t>(n));  // rows that report log-probabilities and are penalised
  for (int64_t i = 0; i < n; ++i) {
    Sampler& s = *samplers[size_t(i)];
    columns.Set(i, s.params(), s.NextUniform());
    if (!s.has_penalties()) continue;
    const std::span<float> row(logits.MutRow<float>(i), size_t(v));
    if (s.params().top_logprobs >= 0) raw[size_t(i)].assign(row.begin(), row.end());
    s.Penalize(row);
  }
  VX_TRY(ctx.accelerator ? SampleOnDevice(ctx, logits, memory) : Run<Sample>(ctx, columns.Args(logits)));
  std::vector<SampledToken> out;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t t = columns.token.Data<int32_t>()[i], top = samplers[size_t(i)]->params().top_logprobs;
    const std::vector<float>& kept = raw[size_t(i)];
    if (top < 0 || t == Sample::kNoToken) {
      out.push_back({t, 0, {}});
    } else {
      out.push_back(Logprobs(
          kept.empty() ? std::span<const float>(logits.Row<float>(i), size_t(v)) : std::span<const float>(kept), t,
          top));
    }
  }
  return out;
}

}  // namespace vexil
