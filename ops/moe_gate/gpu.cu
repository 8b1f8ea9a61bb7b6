// A warp per token: scores in shared memory, then k times the best key behind the last one taken.
#include "ops/gpu_kernel.cuh"
#include "ops/moe_gate/moe_gate.h"

namespace vexil::gpu {
namespace {

constexpr int64_t kMaxExperts = 8192;

__device__ inline float Softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// The k best of p + bias, one after the other; keys of different experts differ.
__device__ inline void Select(const float* p, const float* bias, int num_experts, int k, int32_t* experts) {
  uint64_t last = 0;
  for (int s = 0; s < k; ++s) {
    uint64_t best = ~uint64_t(0);
    for (int e = Lane(); e < num_experts; e += kWarp) {
      const uint64_t key = RankKey(bias ? p[e] + bias[e] : p[e], uint32_t(e));
      if ((s == 0 || key > last) && key < best) best = key;
    }
    last = WarpReduce(best, Smaller());
    if (Lane() == 0) experts[s] = int32_t(uint32_t(last));
  }
}

__global__ void MoeGateKernel(Rows<const float> logits, const float* bias, Rows<const int32_t> tid2eid,
                              const int32_t* ids, int num_experts, int k, float route_scale, Rows<int32_t> experts,
                              Rows<float> weights) {
  BeginKernel();
  extern __shared__ float p[];
  const int64_t t = blockIdx.x;
  for (int e = Lane(); e < num_experts; e += kWarp) p[e] = sqrtf(Softplus(logits.at(t)[e]));
  SyncWarp();
  int32_t* chosen = experts.at(t);
  if (tid2eid.data == nullptr) {
    Select(p, bias, num_experts, k, chosen);
  } else {
    for (int s = Lane(); s < k; s += kWarp) chosen[s] = tid2eid.at(ids[t])[s];
  }
  SyncWarp();
  if (Lane() != 0) return;
  float sum = 0;
  for (int s = 0; s < k; ++s) sum += p[chosen[s]];
  for (int s = 0; s < k; ++s) weights.at(t)[s] = p[chosen[s]] / sum * route_scale;
}

}  // namespace

Support MoeGateWarpSupports(const Context&, const MoeGate::Args& a) {
  VX_REQUIRE(a.logits.dim(1) <= kMaxExperts, "more than 8192 experts");
  return {};
}

Status MoeGateWarp(const Context& ctx, const MoeGate::Args& a) {
  const unsigned n = unsigned(a.logits.dim(0));
  const int num_experts = int(a.logits.dim(1));
  if (n == 0) return {};
  Launch(ctx, MoeGateKernel, n, kWarp, size_t(num_experts) * sizeof(float), RowsOf<float>(a.logits),
         DataOf<float>(a.bias), RowsOf<int32_t>(a.tid2eid), DataOf<int32_t>(a.ids), num_experts, a.k, a.route_scale,
         MutRowsOf<int32_t>(a.experts), MutRowsOf<float>(a.weights));
  return Launched(MoeGate::kName);
}

}  // namespace vexil::gpu
