// A thread per column of a token: it reads the column of every stream before it writes any, so y may be the residual.
#include "ops/gpu_kernel.cuh"
#include "ops/hc_post/hc_post.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kMax = int(HcPost::kMaxStreams);

template <class T>
__global__ void HcPostKernel(Rows<const T> x, Rows<const T> residual, Rows<const float> post, const float* comb,
                             Rows<T> y, int m, int d) {
  BeginKernel();
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (c >= d) return;
  const int64_t t = blockIdx.x;
  float r[kMax];
#pragma unroll
  for (int j = 0; j < kMax; ++j) {
    if (j < m) r[j] = ToF32(residual.at(t, j)[c]);
  }
  const float in = ToF32(x.at(t)[c]);
  for (int k = 0; k < m; ++k) {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kMax; ++j) {
      if (j < m) sum += comb[(t * m + j) * m + k] * r[j];
    }
    y.at(t, k)[c] = FromF32<T>(post.at(t)[k] * in + sum);
  }
}

}  // namespace

Support HcPostElementSupports(const Context&, const HcPost::Args&) { return {}; }

Status HcPostElement(const Context& ctx, const HcPost::Args& a) {
  const dim3 grid(unsigned(a.x.dim(0)), Blocks(a.x.dim(1), kThreads));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, HcPostKernel<T>, grid, kThreads, 0, RowsOf<T>(a.x), RowsOf<T>(a.residual), RowsOf<float>(a.post),
           DataOf<float>(a.comb), MutRowsOf<T>(a.y), int(a.residual.dim(1)), int(a.x.dim(1)));
  });
  return Launched(HcPost::kName);
}

}  // namespace vexil::gpu
