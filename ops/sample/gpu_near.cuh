// A ranked row of Sample whose top-k or nucleus lies near the largest logit: its tokens are sorted.
#pragma once

#include "ops/sample/gpu_row.cuh"
#include "ops/top_k/gpu_select.cuh"
#include "ops/top_k/gpu_sort.cuh"

namespace vexil::gpu {

inline constexpr int kMaxVocab = 1 << 18, kMaxChunks = kMaxVocab / kRowChunk;
inline constexpr int kNearEach = 4, kMaxNear = kNearEach * kSelectThreads;  // tokens
static_assert(SortShared<kSelectThreads, kNearEach>() == kMaxNear);

struct NearShared {
  uint32_t counts[kWarp];
  Weight sums[kWarp];
  uint32_t used, chunks_used;
  uint16_t chunks[kMaxChunks];
  int distance, end;
  uint32_t count;
};

// The tokens up to a distance that hold all that top-k leaves, or without it the nucleus.
struct Near {
  int distance;
  uint32_t count;
  Weight total;  // the weights of the whole row
};

__device__ inline Near FindNear(const Row& r, const Weight* sums, const uint32_t* counts, NearShared& s) {
  const int d = int(threadIdx.x);
  const uint32_t count = d < kDistances ? counts[d] : 0;
  const Weight sum = d < kDistances ? sums[d] : 0;
  const uint32_t count_upto = BlockScan(count, s.counts);
  const Weight sum_upto = BlockScan(sum, s.sums), total = BlockReduce(sum, s.sums, Weight(0));
  if (threadIdx.x == 0) s.count = 0xffffffffu;  // a nucleus that rounding puts beyond the sum
  __syncthreads();
  const Weight wanted = r.by_k ? Weight(r.top_k) : r.Wanted(total);
  const Weight upto = r.by_k ? count_upto : sum_upto, before = upto - (r.by_k ? count : sum);
  if (before < wanted && wanted <= upto) {
    s.distance = d;
    s.count = count_upto;
  }
  __syncthreads();
  return {s.distance, s.count, total};
}

// The logit of a key, where -0 has become 0.
__device__ inline float LogitOf(uint64_t key) {
  const uint32_t ascending = ~uint32_t(key >> 32);
  return __uint_as_float(ascending & 0x80000000u ? ascending & 0x7fffffffu : ~ascending);
}

// The keys of the tokens within near.distance, in any order. `best`: the keys of the chunks' largest logits, of which
// most tell that no token of the chunk is near.
__device__ inline void Gather(const Row& r, const Near& near, const float* logits, int vocab, const uint64_t* best,
                              int chunks, uint64_t* keys, NearShared& s) {
  static_assert(kRowChunk == kSelectThreads);
  constexpr int kAtOnce = 16;  // loads that are waited for together
  if (threadIdx.x == 0) s.used = s.chunks_used = 0;
  __syncthreads();
  for (int c = threadIdx.x; c < chunks; c += kSelectThreads) {
    if (r.DistanceOf(LogitOf(best[c])) <= near.distance) s.chunks[atomicAdd(&s.chunks_used, 1u)] = uint16_t(c);
  }
  __syncthreads();
  const int used = int(s.chunks_used);
  for (int first = 0; first < used; first += kAtOnce) {
    int at[kAtOnce];
    float v[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      at[i] = first + i < used ? s.chunks[first + i] * kRowChunk + int(threadIdx.x) : vocab;
      v[i] = at[i] < vocab ? logits[at[i]] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (at[i] < vocab && r.DistanceOf(v[i]) <= near.distance) {
        keys[atomicAdd(&s.used, 1u)] = RankKey(v[i], uint32_t(at[i]));
      }
    }
  }
  __syncthreads();
}

// Place i in the order of ranks is key i / kSelectThreads of thread i % kSelectThreads, here and in the sort.
__device__ inline int DrawNear(const Row& r, const Near& near, const float* logits, int vocab, const uint64_t* best,
                               int chunks, uint64_t* shared, NearShared& s) {
  const int t = int(threadIdx.x), count = int(near.count);
  Gather(r, near, logits, vocab, best, chunks, shared, s);
  uint64_t keys[kNearEach];
#pragma unroll
  for (int e = 0; e < kNearEach; ++e) {
    const int i = e * kSelectThreads + t;
    keys[e] = i < count ? shared[i] : ~uint64_t(0);
  }
  int size = 1;
  while (size < count) size *= 2;
  BlockSort<kSelectThreads, kNearEach>(keys, size, shared);

  // Weights that top-k leaves, summed up in the order of ranks.
  const int ranks = r.by_k && r.top_k < count ? r.top_k : count;
  Weight weights[kNearEach], upto[kNearEach], sum = 0;
#pragma unroll
  for (int e = 0; e < kNearEach; ++e) {
    const int i = e * kSelectThreads + t;
    weights[e] = i < ranks ? r.WeightOf(LogitOf(keys[e])) : 0;
    upto[e] = sum + BlockScan(weights[e], s.sums);
    sum += BlockReduce(weights[e], s.sums, Weight(0));
  }
  // The rank at which top-p ends: the first that reaches the wanted weight.
  if (t == 0) s.end = ranks;
  __syncthreads();
  const Weight wanted = r.Wanted(r.by_k ? sum : near.total);
#pragma unroll
  for (int e = 0; e < kNearEach; ++e) {
    if (r.by_p && upto[e] - weights[e] < wanted && wanted <= upto[e]) s.end = e * kSelectThreads + t + 1;
  }
  __syncthreads();
  Weight total = 0;
#pragma unroll
  for (int e = 0; e < kNearEach; ++e) {
    if (e * kSelectThreads + t >= s.end || weights[e] < r.least) weights[e] = 0;
    total += weights[e];
  }
  total = BlockReduce(total, s.sums, Weight(0));
  const Weight target = r.Target(total);
  // What is kept is a prefix of the ranks, so the sums up to its tokens are those from before.
#pragma unroll
  for (int e = 0; e < kNearEach; ++e) {
    if (weights[e] > 0 && upto[e] - weights[e] <= target && target < upto[e]) s.distance = int(uint32_t(keys[e]));
  }
  __syncthreads();
  return s.distance;
}

}  // namespace vexil::gpu
