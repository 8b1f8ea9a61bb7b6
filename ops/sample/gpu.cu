// A block per row. No sort: every step of the definition asks for the token at which a sum over tokens in rank order
// (or index order) reaches a value, which radix selection answers. Weights are f64 exponentials as integers of 2^-44,
// so sums are exact and do not depend on an order; a token below 2^-45 of the likeliest has no weight.
#include "ops/argmax/gpu_row.cuh"
#include "ops/sample/sample.h"
#include "ops/top_k/gpu_select.cuh"

namespace vexil::gpu {
namespace {

using Weight = unsigned long long;
constexpr double kOne = 0x1p44;
constexpr float kMinTemperature = 1e-5f;

struct Parameters {
  const float* temperature;
  const int32_t* top_k;
  const float *top_p, *min_p, *uniform;
};

struct SampleShared {
  SelectShared select;
  uint64_t partial[kWarp];
  Weight sums[kWarp];
};

__device__ inline int DrawRow(const float* logits, int vocab, int index_bits, const Parameters& p, int row,
                              Weight* weights, SampleShared& s) {
  const int best = ArgmaxOfRow(logits, vocab, s.partial);
  const float temperature = p.temperature[row], max = logits[best];
  Weight nans = 0;
  for (int v = threadIdx.x; v < vocab; v += kSelectThreads) nans += logits[v] != logits[v];
  if (BlockReduce(nans, s.sums, Weight(0)) > 0 || !(fabsf(max) < INFINITY)) return Sample::kNoToken;
  if (!(temperature > 0)) return best;

  const int k = p.top_k[row];
  const bool by_k = k > 0 && k < vocab, by_p = p.top_p[row] < 1, ranked = by_k || by_p;
  const double divisor = double(temperature > kMinTemperature ? temperature : kMinTemperature);
  for (int v = threadIdx.x; v < vocab; v += kSelectThreads) {
    const double w = exp((double(logits[v]) - double(max)) / divisor);
    weights[v] = Weight(w * kOne + 0.5);
  }
  __syncthreads();
  const auto key_of = [&](int v) { return ranked ? RankKey(logits[v], uint32_t(v)) : uint64_t(uint32_t(v)); };
  const auto weight_of = [&](int v) { return weights[v]; };
  const int bits = ranked ? 64 : index_bits;

  // The tokens up to `last` in rank order survive top-k and top-p.
  uint64_t last = ~uint64_t(0);
  const auto sum_up_to = [&](uint64_t end, Weight least) {
    Weight sum = 0;
    for (int v = threadIdx.x; v < vocab; v += kSelectThreads) {
      if (weights[v] >= least && key_of(v) <= end) sum += weights[v];
    }
    return BlockReduce(sum, s.sums, Weight(0));
  };
  if (by_k)
    last = SelectKey<false>(
        vocab, bits, Weight(k), key_of, [](int) { return Weight(1); }, s.select);
  if (by_p) {
    const double wanted = ceil(double(p.top_p[row]) * double(sum_up_to(last, 0)));
    const uint64_t nucleus =
        SelectKey<false>(vocab, bits, wanted > 1 ? Weight(wanted) : 1, key_of, weight_of, s.select);
    last = nucleus < last ? nucleus : last;
  }
  const double floor = p.min_p[row] < 1 ? double(p.min_p[row]) : 1.0;
  const Weight least = floor > 0 ? Weight(floor * kOne + 0.5) : 0;

  // The first token whose cumulative weight exceeds the drawn share of the sum.
  const Weight total = sum_up_to(last, least);
  Weight target = Weight(double(p.uniform[row]) * double(total));
  target = target < total ? target : total - 1;
  const auto kept_weight = [&](int v) { return weights[v] >= least && key_of(v) <= last ? weights[v] : 0; };
  return int(uint32_t(SelectKey<true>(vocab, bits, target + 1, key_of, kept_weight, s.select)));
}

__global__ void SampleKernel(Rows<const float> logits, int vocab, int index_bits, Parameters p, Weight* weights,
                             int32_t* token) {
  BeginKernel();
  __shared__ SampleShared shared;
  const int row = int(blockIdx.x);
  const int drawn = DrawRow(logits.at(row), vocab, index_bits, p, row, weights + int64_t(row) * vocab, shared);
  if (threadIdx.x == 0) token[row] = drawn;
}

}  // namespace

Support SampleRadixSupports(const Context& ctx, const Sample::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.logits.dim(1) < (1 << 18), "vocabulary of 2^18 or more: sums would not fit");
  return {};
}

Status SampleRadix(const Context& ctx, const Sample::Args& a) {
  const unsigned rows = unsigned(a.logits.dim(0));
  const int vocab = int(a.logits.dim(1));
  if (rows == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  Weight* weights = ctx.workspace->Allocate<Weight>(int64_t(rows) * vocab);
  int index_bits = 8;
  while ((1 << index_bits) < vocab) index_bits += 8;
  const Parameters p{DataOf<float>(a.temperature), DataOf<int32_t>(a.top_k), DataOf<float>(a.top_p),
                     DataOf<float>(a.min_p), DataOf<float>(a.uniform)};
  Launch(ctx, SampleKernel, rows, kSelectThreads, 0, RowsOf<float>(a.logits), vocab, index_bits, p, weights,
         MutDataOf<int32_t>(a.token));
  return Launched(Sample::kName);
}

}  // namespace vexil::gpu
