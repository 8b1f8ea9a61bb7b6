// A thread per block of `ratio` positions and channel: blocks do not depend on each other, but for the first of a
// sequence, which goes on from the stored state. The thread of that block is also the only one that writes states, for
// the last positions of the step, and computes the blocks they lie in again: nothing is read after it was overwritten.
#include "ops/compress_running/compress_running.h"
#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 128;

struct Step {
  Rows<const float> kv, score;
  const float* ape;
  const int32_t *positions, *seq_begin, *slot, *entry_begin;
  int ratio, capacity, d;
  float* state;  // [slots, capacity, 3, d]
};

// The running softmax of one channel.
struct Softmax {
  float max, sum, acc;
  __device__ void Add(float value, float score, bool fresh) {
    if (fresh) {
      max = score, sum = 1, acc = value;
      return;
    }
    const float larger = fmaxf(max, score), keep = expf(max - larger), add = expf(score - larger);
    max = larger;
    sum = sum * keep + add;
    acc = acc * keep + value * add;
  }
};

// One sequence's part of the step, for channel c.
template <class T>
struct Channel {
  const Step& a;
  Rows<T> entries;
  int s, c, begin, first, end;  // positions [first, end) are the rows from `begin`

  __device__ float* StateAt(int p) const {
    return a.state + (int64_t(a.slot[s]) * a.capacity + (p + a.capacity) % a.capacity) * 3 * a.d + c;
  }
  __device__ Softmax Load(int p) const {
    const float* v = StateAt(p);
    return {v[0], v[a.d], v[2 * a.d]};
  }
  __device__ void Store(int p, const Softmax& x) const {
    float* v = StateAt(p);
    v[0] = x.max, v[a.d] = x.sum, v[2 * a.d] = x.acc;
  }
  // Positions [from, to) of one or more whole blocks, going on from x.
  __device__ void Run(int from, int to, Softmax x, bool emit, bool store) const {
    for (int p = from; p < to; ++p) {
      const int64_t i = begin + p - first;
      x.Add(a.kv.at(i)[c], a.score.at(i)[c] + a.ape[p % a.ratio * a.d + c], p % a.ratio == 0);
      if (store && end - p <= a.capacity) Store(p, x);
      if (emit && (p + 1) % a.ratio == 0) {
        entries.at(a.entry_begin[s] + p / a.ratio - first / a.ratio)[c] = FromF32<T>(x.acc / x.sum);
      }
    }
  }
};

template <class T>
__global__ void CompressRunningKernel(Step a, Rows<T> entries) {
  BeginKernel();
  const int s = int(blockIdx.x), c = int(blockIdx.z) * kThreads + int(threadIdx.x);
  const int begin = a.seq_begin[s], count = a.seq_begin[s + 1] - begin;
  if (count == 0 || c >= a.d) return;
  const int first = a.positions[begin], end = first + count;
  const int block = first / a.ratio + int(blockIdx.y), from = block * a.ratio,
            to = from + a.ratio < end ? from + a.ratio : end;
  if (from >= end) return;
  const Channel<T> channel{a, entries, s, c, begin, first, end};
  if (blockIdx.y > 0) {
    channel.Run(from, to, {}, true, false);
    return;
  }
  const Softmax before = first % a.ratio == 0 ? Softmax{} : channel.Load(first - 1);
  channel.Run(first, to, before, true, true);
  if (to == end) return;
  const int oldest = end - a.capacity > to ? end - a.capacity : to;  // position to be stored behind the first block
  channel.Run(oldest / a.ratio * a.ratio, end, {}, false, true);
}

}  // namespace

Support CompressRunningBlocksSupports(const Context&, const CompressRunning::Args& a) {
  VX_REQUIRE(IsElement(a.entries.dtype()), "entries must be F32 or BF16");
  return {};
}

Status CompressRunningBlocks(const Context& ctx, const CompressRunning::Args& a) {
  const int64_t n = a.kv.dim(0), d = a.kv.dim(1), sequences = a.slot.dim(0);
  if (n == 0 || d == 0 || sequences == 0) return {};
  const Step step{RowsOf<float>(a.kv),
                  RowsOf<float>(a.score),
                  DataOf<float>(a.ape),
                  DataOf<int32_t>(a.positions),
                  DataOf<int32_t>(a.seq_begin),
                  DataOf<int32_t>(a.slot),
                  DataOf<int32_t>(a.entry_begin),
                  int(a.ratio),
                  int(a.state.dim(1)),
                  int(d),
                  MutDataOf<float>(a.state)};
  // A sequence of the step has n - sequences + 1 tokens at most, if none is empty, and n in any case.
  const dim3 grid(unsigned(sequences), unsigned((n - 1) / a.ratio + 2), Blocks(d, kThreads));
  WithElement(a.entries.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, CompressRunningKernel<T>, grid, kThreads, 0, step, MutRowsOf<T>(a.entries));
  });
  return Launched(CompressRunning::kName);
}

}  // namespace vexil::gpu
