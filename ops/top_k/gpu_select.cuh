// Radix selection by a block of 1024 threads over keys that are all different.
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

inline constexpr int kSelectThreads = 1024;

// Adds a weight to a sum in two halves in shared memory.
__device__ inline void AddInHalves(uint32_t& low, uint32_t& high, unsigned long long weight) {
  const uint32_t part = uint32_t(weight), old = atomicAdd(&low, part);
  const uint32_t carry = uint32_t(weight >> 32) + (old + part < old ? 1u : 0u);
  if (carry != 0) atomicAdd(&high, carry);
}

struct SelectShared {
  uint32_t low[256], high[256];  // halves of the histogram: chips add 32 bits in shared memory at once, 64 by trying
  uint64_t prefix;
  unsigned long long before, upto;  // the weights below the digit that was found, and with it

  __device__ unsigned long long at(int digit) const { return (unsigned long long)(high[digit]) << 32 | low[digit]; }
  __device__ void Add(int digit, unsigned long long weight) { AddInHalves(low[digit], high[digit], weight); }
};

// The digit at which the running sum of the histogram, from `before`, reaches `wanted`; the last one if it never does.
// By a warp: each lane adds up 8 digits.
__device__ inline void FindDigit(SelectShared& s, unsigned long long wanted, unsigned long long before, uint64_t prefix,
                                 int shift) {
  const int first = Lane() * 8;
  unsigned long long own = 0;
  for (int d = first; d < first + 8; ++d) own += s.at(d);
  unsigned long long sum = before + WarpScan(own) - own;
  const bool last_lane = Lane() == kWarp - 1;
  if (sum >= wanted || (sum + own < wanted && !last_lane)) return;
  int digit = first;
  while (digit < first + 7 && sum + s.at(digit) < wanted) sum += s.at(digit++);
  s.prefix = prefix | uint64_t(digit) << shift;
  s.before = sum;
  s.upto = sum + s.at(digit);
}

// The smallest key K for which the summed weights of all keys <= K reach `wanted` > 0: weight_of(i) >= 0 as an integer,
// so that the sums do not depend on an order. ~0 when the weights of all `count` keys do not reach it. Digits above
// `bits` must be equal in all keys. Not exact: any key that has K's keys and no other below or at it, which takes fewer
// passes.
template <bool kExact, class KeyOf, class WeightOf>
__device__ inline uint64_t SelectKey(int count, int bits, unsigned long long wanted, KeyOf key_of, WeightOf weight_of,
                                     SelectShared& s) {
  uint64_t prefix = 0, mask = 0;
  unsigned long long before = 0;  // the weights of the keys below the prefix
  for (int shift = (bits + 7) / 8 * 8 - 8; shift >= 0; shift -= 8) {
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += kSelectThreads) s.low[b] = s.high[b] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += kSelectThreads) {
      const uint64_t key = key_of(i);
      if ((key & mask) != prefix) continue;
      const unsigned long long weight = weight_of(i);
      if (weight != 0) s.Add(int(key >> shift & 255), weight);
    }
    __syncthreads();
    if (Warp() == 0) FindDigit(s, wanted, before, prefix, shift);
    __syncthreads();
    prefix = s.prefix;
    before = s.before;
    mask |= uint64_t(255) << shift;
    if (!kExact && s.upto == wanted) return prefix | ((uint64_t(1) << shift) - 1);
  }
  return prefix;
}

}  // namespace vexil::gpu
