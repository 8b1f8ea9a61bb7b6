// A token's experts and their weights, by a warp (MoeGate). Included by the kernels of MoeGate and MoeRoute.
#pragma once

#include "ops/gpu_kernel.cuh"
#include "ops/moe_gate/moe_gate.h"

namespace vexil::gpu {
namespace {

// MoeGate's arguments on the device.
struct GateCall {
  Rows<const float> logits;
  const float* bias;            // or null
  Rows<const int32_t> tid2eid;  // or null data
  const int32_t* ids;
  int num_experts, k;
  float route_scale;
  Rows<int32_t> experts;
  Rows<float> weights;
};

inline GateCall GateCallOf(const MoeGate::Args& a) {
  return {RowsOf<float>(a.logits), DataOf<float>(a.bias),         RowsOf<int32_t>(a.tid2eid),
          DataOf<int32_t>(a.ids),  int(a.logits.dim(1)),          a.k,
          a.route_scale,           MutRowsOf<int32_t>(a.experts), MutRowsOf<float>(a.weights)};
}

__device__ inline float Softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

__device__ inline uint32_t WarpLeast(uint32_t v) {
#if defined(__CUDA_ARCH__)
  return __reduce_min_sync(0xffffffffu, v);
#else
  return WarpReduce(v, Smaller());
#endif
}

// The k best of p + bias, one after the other. A lane holds the scores of experts Lane() + 32 i as integers, smaller
// first.
template <int kHeld>
__device__ inline void SelectHeldExperts(const float* p, const float* bias, int num_experts, int k, int32_t* experts) {
  constexpr uint32_t kNone = 0xffffffffu;  // no score
  uint32_t held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int e = Lane() + i * kWarp;
    held[i] = e < num_experts ? DescendingBits(bias ? p[e] + bias[e] : p[e]) : kNone;
  }
  for (int s = 0; s < k; ++s) {
    uint32_t best = held[0], expert = uint32_t(Lane());
#pragma unroll
    for (int i = 1; i < kHeld; ++i) {
      if (held[i] < best) {
        best = held[i];
        expert = uint32_t(Lane() + i * kWarp);
      }
    }
    const uint32_t chosen = WarpLeast(best == WarpLeast(best) ? expert : kNone);
    if (Lane() == 0) experts[s] = int32_t(chosen);
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (uint32_t(Lane() + i * kWarp) == chosen) held[i] = kNone;
    }
  }
}

// The same for any number of experts; keys of different experts differ.
__device__ inline void SelectExperts(const float* p, const float* bias, int num_experts, int k, int32_t* experts) {
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

// Token t; `p` holds a value per expert, `experts` k of them, both for this warp alone.
__device__ inline void GateToken(const GateCall& c, int64_t t, float* p, int32_t* experts) {
  for (int e = Lane(); e < c.num_experts; e += kWarp) p[e] = sqrtf(Softplus(c.logits.at(t)[e]));
  SyncWarp();
  if (c.tid2eid.data == nullptr) {
    constexpr int kHeld = 8;
    if (c.num_experts <= kHeld * kWarp) {
      SelectHeldExperts<kHeld>(p, c.bias, c.num_experts, c.k, experts);
    } else {
      SelectExperts(p, c.bias, c.num_experts, c.k, experts);
    }
  } else {
    for (int s = Lane(); s < c.k; s += kWarp) experts[s] = c.tid2eid.at(c.ids[t])[s];
  }
  SyncWarp();
  float sum = 0;
  for (int s = 0; s < c.k; ++s) sum += p[experts[s]];
  for (int s = Lane(); s < c.k; s += kWarp) {
    c.experts.at(t)[s] = experts[s];
    c.weights.at(t)[s] = p[experts[s]] / sum * c.route_scale;
  }
}

}  // namespace
}  // namespace vexil::gpu
