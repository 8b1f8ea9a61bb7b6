// A block per row: radix selection of the k-th best key, then the kept keys are gathered and sorted in shared memory.
// At most 8 passes over the row, mostly 3 or 4, from cache.
#include "ops/top_k/gpu_select.cuh"
#include "ops/top_k/top_k.h"

namespace vexil::gpu {
namespace {

constexpr int kMaxKept = 4096;

// Ascending, by a block; `size` is a power of two.
__device__ inline void BitonicSort(uint64_t* keys, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int p = threadIdx.x; p < size / 2; p += kSelectThreads) {
        const int i = p / distance * 2 * distance + p % distance, j = i + distance;
        const bool ascending = (i & run) == 0;
        const uint64_t a = keys[i], b = keys[j];
        if ((a > b) == ascending) {
          keys[i] = b;
          keys[j] = a;
        }
      }
    }
  }
  __syncthreads();
}

__global__ void TopKKernel(Rows<const float> scores, const int32_t* counts, Rows<int32_t> indices, int k) {
  BeginKernel();
  extern __shared__ uint64_t keys[];
  __shared__ SelectShared select;
  __shared__ int used;
  const float* row = scores.at(blockIdx.x);
  const int count = counts[blockIdx.x], kept = count < k ? count : k;
  const auto key_of = [&](int i) { return RankKey(row[i], uint32_t(i)); };
  uint64_t last = ~uint64_t(0);
  if (kept < count && kept > 0)
    last = SelectKey<false>(
        count, 64, unsigned(kept), key_of, [](int) { return 1ull; }, select);
  if (threadIdx.x == 0) used = 0;
  int size = 1;
  while (size < kept) size *= 2;
  for (int i = threadIdx.x; i < size; i += kSelectThreads) keys[i] = ~uint64_t(0);
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kSelectThreads) {
    const uint64_t key = key_of(i);
    if (kept > 0 && key <= last) keys[atomicAdd(&used, 1)] = key;
  }
  BitonicSort(keys, size);
  for (int i = threadIdx.x; i < k; i += kSelectThreads)
    indices.at(blockIdx.x)[i] = i < kept ? int32_t(uint32_t(keys[i])) : -1;
}

int KeptAtMost(const TopK::Args& a) {
  return int(a.indices.dim(1) < a.scores.dim(1) ? a.indices.dim(1) : a.scores.dim(1));
}

}  // namespace

Support TopKRadixSupports(const Context&, const TopK::Args& a) {
  VX_REQUIRE(KeptAtMost(a) <= kMaxKept, "keeps more than 4096 scores");
  return {};
}

Status TopKRadix(const Context& ctx, const TopK::Args& a) {
  const unsigned rows = unsigned(a.scores.dim(0));
  if (rows == 0) return {};
  size_t size = 1;
  while (int(size) < KeptAtMost(a)) size *= 2;
  Launch(ctx, TopKKernel, rows, kSelectThreads, size * sizeof(uint64_t), RowsOf<float>(a.scores),
         DataOf<int32_t>(a.count), MutRowsOf<int32_t>(a.indices), int(a.indices.dim(1)));
  return Launched(TopK::kName);
}

}  // namespace vexil::gpu
