// A ranked row of Sample of which many tokens matter. No sort: every step of the definition asks for the token at which
// a sum over tokens in rank order reaches a value, which radix selection answers.
#pragma once

#include "ops/sample/gpu_row.cuh"
#include "ops/top_k/gpu_select.cuh"

namespace vexil::gpu {

// By a block of kSelectThreads. `weights` [vocab] is scratch, `sums` holds 32 values.
__device__ inline int DrawBySelection(const Row& r, const float* logits, int vocab, Weight* weights, SelectShared& s,
                                      Weight* sums) {
  for (int v = threadIdx.x; v < vocab; v += kSelectThreads) weights[v] = r.WeightOf(logits[v]);
  __syncthreads();
  const auto key_of = [&](int v) { return RankKey(logits[v], uint32_t(v)); };
  const auto weight_of = [&](int v) { return weights[v]; };
  constexpr int kBits = 64;

  // The tokens up to `last` in rank order survive top-k and top-p.
  uint64_t last = ~uint64_t(0);
  const auto sum_up_to = [&](uint64_t end, Weight least) {
    Weight sum = 0;
    for (int v = threadIdx.x; v < vocab; v += kSelectThreads) {
      if (weights[v] >= least && key_of(v) <= end) sum += weights[v];
    }
    return BlockReduce(sum, sums, Weight(0));
  };
  if (r.by_k)
    last = SelectKey<false>(
        vocab, kBits, Weight(r.top_k), key_of, [](int) { return Weight(1); }, s);
  if (r.by_p) {
    const uint64_t nucleus = SelectKey<false>(vocab, kBits, r.Wanted(sum_up_to(last, 0)), key_of, weight_of, s);
    last = nucleus < last ? nucleus : last;
  }
  // The first token whose cumulative weight exceeds the drawn share of the sum.
  const Weight target = r.Target(sum_up_to(last, r.least));
  const auto kept_weight = [&](int v) { return weights[v] >= r.least && key_of(v) <= last ? weights[v] : 0; };
  return int(uint32_t(SelectKey<true>(vocab, kBits, target + 1, key_of, kept_weight, s)));
}

}  // namespace vexil::gpu
