// Sums and sorts over the threads of a block.
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

// The sum of the threads up to and including one's own, for all threads of a block. `shared` holds 32 values; the block
// may reuse it after the next barrier.
template <class T>
__device__ inline T BlockScan(T v, T* shared) {
  const T upto = WarpScan(v);
  __syncthreads();
  if (Lane() == kWarp - 1) shared[Warp()] = upto;
  __syncthreads();
  return upto + WarpReduce(Lane() < Warp() ? shared[Lane()] : T(0));
}

// Keys in shared memory that BlockSort needs. Two halves in turn save a barrier; many keys have to do with one.
template <int kThreads, int kEach>
constexpr int SortShared() {
  return kThreads * kEach * (kThreads * kEach <= 1024 ? 2 : 1);
}

// What the smaller or the larger of two places gets.
template <class Key>
__device__ inline Key Ordered(Key own, Key other, bool smaller) {
  return (own < other) == smaller ? own : other;
}

// Sorts the first `size` keys of a block ascending: key e * kThreads + t is keys[e] of thread t. `size` is a power of
// two; keys from there on must rank behind all others. A bitonic network in which the smaller key always goes to the
// lower place, because runs are merged back to front: pairs within 32 lanes are exchanged by shuffles, the others
// through `shared`. Only what repeats is unrolled: between other kernels the code comes from far away, too.
template <int kThreads, int kEach, class Key>
__device__ inline void BlockSort(Key (&keys)[kEach], int size, Key* shared) {
  const int t = int(threadIdx.x), first = Warp() * kWarp;
  constexpr bool kTwoHalves = SortShared<kThreads, kEach>() > kThreads * kEach;
  Key* exchange = shared;
  const auto by_shuffle = [&](int mask, int bit) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (e * kThreads + first < size) keys[e] = Ordered(keys[e], ShuffleXor(keys[e], mask), (t & bit) == 0);
    }
  };
  const auto by_memory = [&](int mask, int bit) {
    if (!kTwoHalves) __syncthreads();
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (e * kThreads + first < size) exchange[e * kThreads + t] = keys[e];
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int i = e * kThreads + t;
      if (e * kThreads + first < size) keys[e] = Ordered(keys[e], exchange[i ^ mask], (i & bit) == 0);
    }
    if (kTwoHalves) exchange = exchange == shared ? shared + kThreads * kEach : shared;
  };
#pragma unroll
  for (int run = 2; run <= kWarp; run *= 2) {
    by_shuffle(run - 1, run / 2);
#pragma unroll
    for (int distance = run / 4; distance > 0; distance /= 2) by_shuffle(distance, distance);
  }
#pragma unroll 1
  for (int run = 2 * kWarp; run <= size; run *= 2) {
    by_memory(run - 1, run / 2);
#pragma unroll 1
    for (int distance = run / 4; distance >= kWarp; distance /= 2) by_memory(distance, distance);
#pragma unroll
    for (int distance = kWarp / 2; distance > 0; distance /= 2) by_shuffle(distance, distance);
  }
}

}  // namespace vexil::gpu
