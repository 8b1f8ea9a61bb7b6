// The mixes of the hyper-connection ops on a GPU: mix[t, j] = (fn[j, :] . u_t) and the sum of squares of u_t, for u_t
// the streams of token t one after the other.
//
// A block per (j, tile of 4 tokens, stream): thread t takes 4 neighbouring elements from 4t, 4t + 1024, ... of the
// stream, then a block reduction; whoever uses a mix adds the streams' parts in ascending order. j = mixes is the sum
// of squares. Reads fn once per tile.
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

inline constexpr int kMixThreads = 256;
inline constexpr int kMixTokens = 4;

// The parts of all mixes: value [t, s, j].
struct Mixes {
  const float* parts;
  int streams, mixes;
  __device__ float at(int64_t t, int j) const {
    float sum = 0;
    for (int s = 0; s < streams; ++s) sum += parts[(t * streams + s) * (mixes + 1) + j];
    return sum;
  }
  __device__ float InverseRms(int64_t t, int width, float eps) const {
    return 1.0f / sqrtf(at(t, mixes) / float(streams * width) + eps);
  }
};

// A block makes kJ mixes, so that many tokens are read fewer times.
template <class T, int kJ, bool kLoad4>
__global__ void MixesKernel(Rows<const T> h, int n, int d, Rows<const float> fn, int mixes, float* parts) {
  BeginKernel();
  __shared__ float partial[kWarp];
  const int j0 = int(blockIdx.x) * kJ, s = int(blockIdx.z), streams = int(gridDim.z);
  const int64_t first = int64_t(blockIdx.y) * kMixTokens;
  const int tokens = n - first < kMixTokens ? int(n - first) : kMixTokens;
  float sum[kJ][kMixTokens] = {};
  constexpr int kStep = kLoad4 ? 4 : 1;
  for (int c = kStep * int(threadIdx.x); c < d; c += kStep * kMixThreads) {
    Four u[kMixTokens] = {};
#pragma unroll
    for (int t = 0; t < kMixTokens; ++t) {
      if (t >= tokens) break;
      const T* at = h.at(first + t, s) + c;
      if constexpr (kLoad4) {
        u[t] = Load4(at);
      } else {
        u[t].v[0] = ToF32(*at);
      }
    }
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      if (j0 + j > mixes) break;
      Four w = {};
      if (j0 + j < mixes) {
        const float* at = fn.at(j0 + j) + int64_t(s) * d + c;
        if constexpr (kLoad4) {
          w = Load4(at);
        } else {
          w.v[0] = *at;
        }
      }
#pragma unroll
      for (int t = 0; t < kMixTokens; ++t) {
        for (int i = 0; i < kStep; ++i) sum[j][t] += u[t].v[i] * (j0 + j < mixes ? w.v[i] : u[t].v[i]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kJ; ++j) {
#pragma unroll
    for (int t = 0; t < kMixTokens; ++t) {
      if (j0 + j > mixes || t >= tokens) break;
      const float total = BlockReduce(sum[j][t], partial, 0.0f);
      if (threadIdx.x == 0) parts[((first + t) * streams + s) * (mixes + 1) + j0 + j] = total;
    }
  }
}

// In the workspace.
template <class T>
Mixes MakeMixes(const Context& ctx, const TensorView& h, const TensorView& fn) {
  const int n = int(h.dim(0)), streams = int(h.dim(1)), mixes = int(fn.dim(0));
  float* parts = ctx.workspace->Allocate<float>(int64_t(n) * streams * (mixes + 1));
  constexpr int kMany = 5;  // 25 mixes at 4 streams
  const auto run = [&](auto kernel, int per_block) {
    Launch(ctx, kernel, dim3(Blocks(mixes + 1, per_block), Blocks(n, kMixTokens), unsigned(streams)), kMixThreads, 0,
           RowsOf<T>(h), n, int(h.dim(2)), RowsOf<float>(fn), mixes, parts);
  };
  if (!FitsLoad4(h) || !FitsLoad4(fn)) {
    run(MixesKernel<T, 1, false>, 1);
  } else if (n < 64) {
    run(MixesKernel<T, 1, true>, 1);
  } else {
    run(MixesKernel<T, kMany, true>, kMany);
  }
  return {parts, streams, mixes};
}

__device__ inline float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Columns of a block of the kernels that mix streams.
inline constexpr int kMixColumns = 1024;

// x[c] = sum_s pre[s] * h[t, s, c], streams ascending, for the columns of block (t, blockIdx.y).
template <class T>
__device__ inline void MixStreams(const Rows<const T>& h, int64_t t, int streams, int d, const float* pre, T* x) {
  const int begin = int(blockIdx.y) * kMixColumns, end = begin + kMixColumns < d ? begin + kMixColumns : d;
  for (int c = begin + int(threadIdx.x); c < end; c += int(blockDim.x)) {
    float sum = 0;
    for (int s = 0; s < streams; ++s) sum += pre[s] * ToF32(h.at(t, s)[c]);
    x[c] = FromF32<T>(sum);
  }
}

}  // namespace vexil::gpu
