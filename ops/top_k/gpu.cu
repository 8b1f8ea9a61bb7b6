// A block per row. Up to 1024 scores are sorted as they are. Of more, radix passes over digits of 11 bits narrow down
// the key up to which at least k and at most 1024 of them lie; those are gathered and sorted (gpu_sort.cuh). A score is
// kept in a register as its ranking bits, its index is its place; only rows of more than 8192 scores are read again in
// every pass. Scores that are all BF16 numbers, as the indexer's are, sort as keys of 32 bits: 16 of the score, 16 of
// the index.
//
// Bytes: the scores once. What takes the time is the network of the sort (45 steps for 512 keys) and, for long rows,
// the additions to the histogram.
#include "ops/top_k/gpu_sort.cuh"
#include "ops/top_k/top_k.h"

namespace vexil::gpu {
namespace {

constexpr int kDigit = 11;  // bits
constexpr int kBins = 1 << kDigit;
constexpr int kFewRows = 256;  // up to which a row gets a large block
constexpr int kMaxKept = 4096;
constexpr uint32_t kNone = 0xffffffffu;  // ranks behind every score

// A row's scores as ranking bits (DescendingBits), kPerThread of them in each thread's registers: score
// p * kThreads + t in thread t. kPerThread = 0: read again whenever they are needed.
template <int kThreads, int kPerThread>
struct RowBits {
  const float* row;
  int count;
  uint32_t bits[kPerThread > 0 ? kPerThread : 1];

  __device__ RowBits(const float* r, int n) : row(r), count(n) {
    if constexpr (kPerThread > 0) {
      float v[kPerThread];
#pragma unroll
      for (int p = 0; p < kPerThread; ++p) {
        const int i = p * kThreads + int(threadIdx.x);
        v[p] = i < count ? row[i] : 0.0f;
      }
#pragma unroll
      for (int p = 0; p < kPerThread; ++p) {
        bits[p] = p * kThreads + int(threadIdx.x) < count ? DescendingBits(v[p]) : kNone;
      }
    }
  }
  __device__ uint32_t At(int p) const {
    if constexpr (kPerThread > 0) return bits[p];
    const int i = p * kThreads + int(threadIdx.x);
    return i < count ? DescendingBits(row[i]) : kNone;
  }
  // f(bits, index) for the thread's scores.
  template <class F>
  __device__ void ForEach(F f) const {
    if constexpr (kPerThread > 0) {
#pragma unroll
      for (int p = 0; p < kPerThread; ++p) {
        if (bits[p] != kNone) f(bits[p], uint32_t(p * kThreads) + threadIdx.x);
      }
    } else {
      constexpr int kAtOnce = 8;  // loads that are waited for together
      for (int first = threadIdx.x; first < count; first += kAtOnce * kThreads) {
        float v[kAtOnce];
#pragma unroll
        for (int p = 0; p < kAtOnce; ++p) v[p] = first + p * kThreads < count ? row[first + p * kThreads] : 0.0f;
#pragma unroll
        for (int p = 0; p < kAtOnce; ++p) {
          if (first + p * kThreads < count) f(DescendingBits(v[p]), uint32_t(first + p * kThreads));
        }
      }
    }
  }
};

// The keys (bits, index) up to this one, in the order of ranking.
struct Last {
  uint32_t bits, index;
  uint32_t kept;  // how many they are
  __device__ bool Includes(uint32_t b, uint32_t i) const { return b < bits || (b == bits && i <= index); }
};

struct Shared {
  uint32_t bins[kBins];
  uint32_t partial[3][kWarp];
  uint32_t digit, before, upto, used;
};

// What the scores of a row have in common.
struct Extent {
  uint32_t lowest, highest;  // bits
  bool bf16;                 // every score is a BF16 number: the lower half of its bits repeats the sign
};

template <int kThreads, class Bits>
__device__ inline Extent ExtentOf(const Bits& row, Shared& s) {
  uint32_t lowest = kNone, highest = 0, rest = 0;
  row.ForEach([&](uint32_t b, uint32_t) {
    lowest = b < lowest ? b : lowest;
    highest = b > highest ? b : highest;
    rest |= (b ^ ~uint32_t(int32_t(b) >> 31)) & 0xffffu;
  });
  lowest = WarpReduce(lowest, Smaller());
  highest = WarpReduce(highest, Larger());
  if (Lane() == 0) {
    s.partial[0][Warp()] = lowest;
    s.partial[1][Warp()] = highest;
  }
  const uint32_t rests = Ballot(rest != 0);
  if (Lane() == 0) s.partial[2][Warp()] = rests;
  __syncthreads();
  const bool own = Lane() < kThreads / kWarp;
  lowest = WarpReduce(own ? s.partial[0][Lane()] : kNone, Smaller());
  highest = WarpReduce(own ? s.partial[1][Lane()] : 0u, Larger());
  return {lowest, highest, Ballot(own && s.partial[2][Lane()] != 0) == 0};
}

__device__ inline int BitsOf(uint32_t v) { return 32 - __clz(int(v)); }

// Clears the histogram, lets `count` add to it, and finds the digit at which its running sum, from s.before, reaches
// `wanted`.
template <int kThreads, class Count>
__device__ inline void RadixPass(uint32_t wanted, uint32_t before, Count count, Shared& s) {
  constexpr int kOwn = kBins / kThreads;
  for (int b = threadIdx.x; b < kBins; b += kThreads) s.bins[b] = 0;
  __syncthreads();
  count();
  __syncthreads();
  uint32_t bins[kOwn], own = 0;
#pragma unroll
  for (int b = 0; b < kOwn; ++b) own += bins[b] = s.bins[int(threadIdx.x) * kOwn + b];
  const uint32_t upto = before + BlockScan(own, s.partial[0]);
  uint32_t sum = upto - own;
  if (sum < wanted && wanted <= upto) {
    uint32_t digit = threadIdx.x * kOwn;
#pragma unroll
    for (int b = 0; b < kOwn; ++b) {
      if (sum < wanted && wanted <= sum + bins[b]) {
        s.digit = digit + uint32_t(b);
        s.before = sum;
        s.upto = sum + bins[b];
      }
      sum += bins[b];
    }
  }
  __syncthreads();
}

// A key with at least `wanted` and at most `capacity` keys up to it, of more than `capacity` in all.
template <int kThreads, class Bits>
__device__ inline Last Select(const Bits& row, const Extent& extent, uint32_t wanted, uint32_t capacity, Shared& s) {
  // `left` low bits of the wanted key's score are open, then `left` of its index.
  const int end = extent.bf16 ? 16 : 0;  // bits below are decided by the others
  int left = BitsOf(extent.lowest ^ extent.highest);
  uint32_t prefix = extent.lowest, before = 0;
  while (left > end) {
    const int shift = left - kDigit > end ? left - kDigit : end;
    const uint32_t mask = (1u << (left - shift)) - 1;
    const auto count = [&] {
      row.ForEach([&](uint32_t b, uint32_t) {
        if ((b ^ prefix) >> (left - 1) >> 1 == 0) atomicAdd(&s.bins[b >> shift & mask], 1u);
      });
    };
    RadixPass<kThreads>(wanted, before, count, s);
    prefix = (prefix & ~(mask << shift)) | s.digit << shift;
    before = s.before;
    left = shift;
    const uint32_t upto = s.upto;
    if (upto <= capacity) return {prefix | ((1u << left) - 1), kNone, upto};
  }
  // Scores that equal the wanted one, by index.
  if (extent.bf16) prefix = (prefix & 0xffff0000u) | (prefix >> 31 ? 0u : 0xffffu);
  left = BitsOf(uint32_t(row.count - 1));
  uint32_t index = 0;
  for (;;) {
    const int shift = left > kDigit ? left - kDigit : 0;
    const auto count = [&] {
      row.ForEach([&](uint32_t b, uint32_t i) {
        if (b == prefix && (i ^ index) >> left == 0) atomicAdd(&s.bins[i >> shift & (kBins - 1)], 1u);
      });
    };
    RadixPass<kThreads>(wanted, before, count, s);
    index |= s.digit << shift;
    before = s.before;
    left = shift;
    const uint32_t upto = s.upto;
    if (upto <= capacity || left == 0) return {prefix, index | ((1u << left) - 1), upto};
  }
}

template <class Key>
__device__ inline Key KeyOf(uint32_t bits, uint32_t index) {
  if constexpr (sizeof(Key) == 4) {
    return (bits & 0xffff0000u) | index;
  } else {
    return Key(bits) << 32 | index;
  }
}
template <class Key>
__device__ inline int32_t IndexOf(Key key) {
  return int32_t(sizeof(Key) == 4 ? uint32_t(key) & 0xffffu : uint32_t(key));
}

// Sorts the keys up to `last`; `all`: every key of the row.
template <class Key, int kThreads, int kEach, class Bits>
__device__ inline void SortKept(const Bits& row, bool all, const Last& last, int kept, int k, int32_t* indices,
                                Key* shared, Shared& s) {
  Key keys[kEach];
  const int found = int(last.kept);
  if (all) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int i = e * kThreads + int(threadIdx.x);
      keys[e] = i < row.count ? KeyOf<Key>(row.At(e), uint32_t(i)) : Key(~Key(0));
    }
  } else {
    if (threadIdx.x == 0) s.used = 0;
    __syncthreads();
    row.ForEach([&](uint32_t b, uint32_t i) {
      if (last.Includes(b, i)) shared[atomicAdd(&s.used, 1u)] = KeyOf<Key>(b, i);
    });
    __syncthreads();
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int i = e * kThreads + int(threadIdx.x);
      keys[e] = i < found ? shared[i] : Key(~Key(0));
    }
    __syncthreads();
  }
  int size = 1;
  while (size < found) size *= 2;
  BlockSort<kThreads, kEach>(keys, size, shared);
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int i = e * kThreads + int(threadIdx.x);
    if (i < kept) indices[i] = IndexOf(keys[e]);
  }
  for (int i = kept + int(threadIdx.x); i < k; i += kThreads) indices[i] = -1;
}

template <int kThreads, int kPerThread, int kEach>
__global__ void __launch_bounds__(kThreads, 1)
    TopKKernel(Rows<const float> scores, const int32_t* counts, Rows<int32_t> indices, int k) {
  static_assert(kPerThread == 0 || kPerThread >= kEach);
  BeginKernel();
  constexpr int kCapacity = kThreads * kEach;
  extern __shared__ uint64_t memory[];
  __shared__ Shared s;
  const int count = counts[blockIdx.x], kept = count < k ? count : k;
  const RowBits<kThreads, kPerThread> row(scores.at(blockIdx.x), count);
  const Extent extent = ExtentOf<kThreads>(row, s);
  const bool all = count <= kCapacity || kept == 0;
  Last last{kNone, kNone, uint32_t(kept == 0 ? 0 : count)};
  if (!all) last = Select<kThreads>(row, extent, uint32_t(kept), uint32_t(kCapacity), s);
  int32_t* const out = indices.at(blockIdx.x);
  if (extent.bf16 && count <= 0x10000) {
    SortKept<uint32_t, kThreads, kEach>(row, all, last, kept, k, out, reinterpret_cast<uint32_t*>(memory), s);
  } else {
    SortKept<uint64_t, kThreads, kEach>(row, all, last, kept, k, out, memory, s);
  }
}

template <int kThreads, int kPerThread, int kEach>
void Start(const Context& ctx, const TopK::Args& a) {
  constexpr size_t kShared = SortShared<kThreads, kEach>() * sizeof(uint64_t);
  const auto kernel = TopKKernel<kThreads, kPerThread, kEach>;
  AllowShared(kernel, kShared);
  Launch(ctx, kernel, unsigned(a.scores.dim(0)), kThreads, kShared, RowsOf<float>(a.scores), DataOf<int32_t>(a.count),
         MutRowsOf<int32_t>(a.indices), int(a.indices.dim(1)));
}

int64_t KeptAtMost(const TopK::Args& a) {
  return a.indices.dim(1) < a.scores.dim(1) ? a.indices.dim(1) : a.scores.dim(1);
}

}  // namespace

Support TopKRadixSupports(const Context&, const TopK::Args& a) {
  VX_REQUIRE(KeptAtMost(a) <= kMaxKept, "keeps more than 4096 scores");
  return {};
}

Status TopKRadix(const Context& ctx, const TopK::Args& a) {
  const int64_t rows = a.scores.dim(0), m = a.scores.dim(1), kept = KeptAtMost(a);
  if (rows == 0) return {};
  // Few rows get threads for speed, many of them blocks that several fit on a multiprocessor.
  if (kept <= 1024 && rows > kFewRows && m <= 256 * 8) {
    Start<256, 8, 4>(ctx, a);
  } else if (kept <= 1024 && rows > kFewRows && m <= 256 * 32) {
    Start<256, 32, 4>(ctx, a);
  } else if (kept <= 1024 && m <= 1024 * 8) {
    Start<1024, 8, 1>(ctx, a);
  } else if (kept <= 1024) {
    Start<1024, 0, 1>(ctx, a);
  } else {
    Start<1024, 0, 4>(ctx, a);
  }
  return Launched(TopK::kName);
}

}  // namespace vexil::gpu
