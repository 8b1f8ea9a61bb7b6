// Two kernels: the entries, a thread per entry and channel, which read the step's rows and what the ring held before
// it; then the step's last rows go into the ring.
#include "ops/compress_overlap/compress_overlap.h"
#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 128;

struct Step {
  Rows<const float> kv, score;
  const float* ape;
  const int32_t *positions, *seq_begin, *slot, *entry_begin;
  int sequences, ratio, capacity, d;
  float* ring;  // [slots, capacity, 2, 2d]
  __device__ float* At(int s, int p) const { return ring + (int64_t(slot[s]) * capacity + p % capacity) * 4 * d; }
};

// Value and score of channel c at position p of sequence s, whose first token of the step is row `begin`, at `first`.
struct Candidate {
  float value, score;
};
__device__ inline Candidate CandidateAt(const Step& a, int s, int begin, int first, int p, int c) {
  if (p < first) {
    const float* row = a.At(s, p);
    return {row[c], row[2 * a.d + c]};
  }
  const int64_t i = begin + p - first;
  return {a.kv.at(i)[c], a.score.at(i)[c] + a.ape[p % a.ratio * 2 * a.d + c]};
}

// kRatio: the ratio, or 0 for any.
template <class T, int kRatio>
__global__ void EntriesKernel(Step a, Rows<T> entries) {
  BeginKernel();
  const int m = int(blockIdx.x), c = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (m >= a.entry_begin[a.sequences] || c >= a.d) return;
  const int s = FindSegment(a.entry_begin, a.sequences, m), begin = a.seq_begin[s], first = a.positions[begin];
  const int own = (first / a.ratio + m - a.entry_begin[s]) * a.ratio;
  const int from = own > 0 ? own - a.ratio : 0, end = own + a.ratio;
  const auto at = [&](int p) { return CandidateAt(a, s, begin, first, p, p >= own ? a.d + c : c); };
  float max = -INFINITY, sum = 0, pooled = 0;
  if constexpr (kRatio > 0) {  // all candidates are loaded at once
    Candidate v[2 * kRatio];
#pragma unroll
    for (int i = 0; i < 2 * kRatio; ++i) {
      const int p = own - kRatio + i;
      v[i] = p >= from ? at(p) : Candidate{0, -INFINITY};
      max = fmaxf(max, v[i].score);
    }
#pragma unroll
    for (int i = 0; i < 2 * kRatio; ++i) {
      v[i].score = expf(v[i].score - max);  // 0 for those of the block before the first
      sum += v[i].score;
    }
#pragma unroll
    for (int i = 0; i < 2 * kRatio; ++i) pooled += v[i].score / sum * v[i].value;
  } else {
    for (int p = from; p < end; ++p) max = fmaxf(max, at(p).score);
    for (int p = from; p < end; ++p) sum += expf(at(p).score - max);
    for (int p = from; p < end; ++p) {
      const Candidate v = at(p);
      pooled += expf(v.score - max) / sum * v.value;
    }
  }
  entries.at(m)[c] = FromF32<T>(pooled);
}

__global__ void StoreKernel(Step a) {
  BeginKernel();
  const int i = int(blockIdx.x), c = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (c >= 2 * a.d) return;
  const int s = FindSegment(a.seq_begin, a.sequences, i), p = a.positions[i];
  if (a.seq_begin[s + 1] - i > a.capacity) return;  // a later token of the step takes its place
  float* row = a.At(s, p);
  row[c] = a.kv.at(i)[c];
  row[2 * a.d + c] = a.score.at(i)[c] + a.ape[p % a.ratio * 2 * a.d + c];
}

}  // namespace

Support CompressOverlapElementSupports(const Context&, const CompressOverlap::Args& a) {
  VX_REQUIRE(IsElement(a.entries.dtype()), "entries must be F32 or BF16");
  return {};
}

Status CompressOverlapElement(const Context& ctx, const CompressOverlap::Args& a) {
  const int64_t n = a.kv.dim(0), d = a.entries.dim(1), m = a.entries.dim(0);
  if (n == 0 || d == 0) return {};
  const Step step{RowsOf<float>(a.kv),
                  RowsOf<float>(a.score),
                  DataOf<float>(a.ape),
                  DataOf<int32_t>(a.positions),
                  DataOf<int32_t>(a.seq_begin),
                  DataOf<int32_t>(a.slot),
                  DataOf<int32_t>(a.entry_begin),
                  int(a.slot.dim(0)),
                  int(a.ratio),
                  int(a.ring.dim(1)),
                  int(d),
                  MutDataOf<float>(a.ring)};
  if (m > 0) {
    WithElement(a.entries.dtype(), [&](auto e) {
      using T = decltype(e);
      const auto kernel = a.ratio == 4 ? EntriesKernel<T, 4> : EntriesKernel<T, 0>;
      Launch(ctx, kernel, dim3(unsigned(m), Blocks(d, kThreads)), kThreads, 0, step, MutRowsOf<T>(a.entries));
    });
  }
  Launch(ctx, StoreKernel, dim3(unsigned(n), Blocks(2 * d, kThreads)), kThreads, 0, step);
  return Launched(CompressOverlap::kName);
}

}  // namespace vexil::gpu
