// Two kernels: the mixes, spread over the chip (gpu_mixes.cuh), then a block per token and 1024 columns for the
// mixture; the second warp of a token's first block does Sinkhorn meanwhile. At 4 streams that keeps the matrix in
// registers, an element per lane.
#include "ops/hc_pre/gpu_mixes.cuh"
#include "ops/hc_pre/hc_pre.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kMax = int(HcPre::kMaxStreams);

// One step of Sinkhorn by a warp: lane g < m divides the m elements c[g * group + i * stride] by their sum plus eps.
__device__ inline void Normalize(float* c, int m, int group, int stride, float eps) {
  SyncWarp();
  const int g = Lane();
  if (g < m) {
    float sum = 0;
    for (int i = 0; i < m; ++i) sum += c[g * group + i * stride];
    for (int i = 0; i < m; ++i) c[g * group + i * stride] /= sum + eps;
  }
  SyncWarp();
}

// c [m, m] in shared memory, by a warp.
__device__ inline void Sinkhorn(float* c, int m, float eps, int iterations) {
  SyncWarp();
  const int j = Lane();
  if (j < m) {
    float max = c[j * m], sum = 0;
    for (int k = 1; k < m; ++k) max = fmaxf(max, c[j * m + k]);
    for (int k = 0; k < m; ++k) {
      c[j * m + k] = expf(c[j * m + k] - max);
      sum += c[j * m + k];
    }
    for (int k = 0; k < m; ++k) c[j * m + k] = c[j * m + k] / sum + eps;
  }
  Normalize(c, m, 1, m, eps);
  for (int i = 1; i < iterations; ++i) {
    Normalize(c, m, m, 1, eps);
    Normalize(c, m, 1, m, eps);
  }
}

// The sum over the lanes that differ in the bits `near` and `far`.
__device__ inline float Sum4(float v, int near, int far) {
  v += ShuffleXor(v, near);
  return v + ShuffleXor(v, far);
}

// The same for m = 4: lane i holds c[i % 16]; row i / 4, column i % 4. Sums in pairs.
__device__ inline float Sinkhorn4(float v, float eps, int iterations) {
  float max = fmaxf(v, ShuffleXor(v, 1));
  max = fmaxf(max, ShuffleXor(max, 2));
  v = expf(v - max);
  v = v / Sum4(v, 1, 2) + eps;
  v /= Sum4(v, 4, 8) + eps;
  for (int i = 1; i < iterations; ++i) {
    v /= Sum4(v, 1, 2) + eps;
    v /= Sum4(v, 4, 8) + eps;
  }
  return v;
}

struct Weights {
  const float *scale, *base;
  Rows<float> post;
  float* comb;
  float norm_eps, hc_eps;
  int iterations;
};

// post [m] and comb [m, m] of token t, by a warp; `scratch` holds m * m values.
__device__ inline void PostAndComb(const Mixes& mixes, int64_t t, int m, float r, const Weights& w, float* scratch) {
  for (int s = Lane(); s < m; s += kWarp)
    w.post.at(t)[s] = 2.0f * Sigmoid(mixes.at(t, m + s) * r * w.scale[1] + w.base[m + s]);
  const auto start = [&](int i) { return mixes.at(t, 2 * m + i) * r * w.scale[2] + w.base[2 * m + i]; };
  float* comb = w.comb + t * m * m;
  if (m == 4) {
    const float v = Sinkhorn4(start(Lane() % 16), w.hc_eps, w.iterations);
    if (Lane() < 16) comb[Lane()] = v;
    return;
  }
  for (int i = Lane(); i < m * m; i += kWarp) scratch[i] = start(i);
  Sinkhorn(scratch, m, w.hc_eps, w.iterations);
  for (int i = Lane(); i < m * m; i += kWarp) comb[i] = scratch[i];
}

template <class T>
__global__ void HcPreKernel(Rows<const T> h, int m, int d, Mixes mixes, Weights w, Rows<T> x) {
  BeginKernel();
  __shared__ float pre[kMax], scratch[kMax * kMax];
  const int64_t t = blockIdx.x;
  const float r = mixes.InverseRms(t, d, w.norm_eps);
  const int s = int(threadIdx.x);
  if (s < m) pre[s] = Sigmoid(mixes.at(t, s) * r * w.scale[0] + w.base[s]) + w.hc_eps;
  __syncthreads();
  if (blockIdx.y == 0 && Warp() == 1) PostAndComb(mixes, t, m, r, w, scratch);
  MixStreams(h, t, m, d, pre, x.at(t));
}

}  // namespace

Support HcPreTwoPassSupports(const Context& ctx, const HcPre::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status HcPreTwoPass(const Context& ctx, const HcPre::Args& a) {
  const unsigned n = unsigned(a.h.dim(0));
  if (n == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  const Weights w{DataOf<float>(a.scale),
                  DataOf<float>(a.base),
                  MutRowsOf<float>(a.post),
                  MutDataOf<float>(a.comb),
                  a.norm_eps,
                  a.hc_eps,
                  a.sinkhorn_iters};
  WithElement(a.h.dtype(), [&](auto e) {
    using T = decltype(e);
    const Mixes mixes = MakeMixes<T>(ctx, a.h, a.fn);
    Launch(ctx, HcPreKernel<T>, dim3(n, Blocks(a.h.dim(2), kMixColumns)), kThreads, 0, RowsOf<T>(a.h), int(a.h.dim(1)),
           int(a.h.dim(2)), mixes, w, MutRowsOf<T>(a.x));
  });
  return Launched(HcPre::kName);
}

}  // namespace vexil::gpu
