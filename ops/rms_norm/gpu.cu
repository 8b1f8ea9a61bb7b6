// A block per row; f32 sums. Rows of up to 4096 aligned elements stay in registers between their two uses: thread t
// holds the elements 4t .. 4t + 3. Others are read twice: thread t takes the elements t, t + 256, ...
#include "ops/rms_norm/gpu_rms_norm.cuh"
#include "ops/rms_norm/rms_norm.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;

template <class T, class W>
__global__ void RmsNormKernel(Rows<const T> x, const W* weight, Rows<T> y, int d, float eps) {
  BeginKernel();
  __shared__ float partial[kWarp];
  const T* in = x.at(blockIdx.x);
  T* out = y.at(blockIdx.x);
  float sum = 0;
  for (int i = threadIdx.x; i < d; i += kThreads) sum += ToF32(in[i]) * ToF32(in[i]);
  sum = BlockReduce(sum, partial, 0.0f);
  const float scale = 1.0f / sqrtf(sum / float(d) + eps);
  for (int i = threadIdx.x; i < d; i += kThreads) out[i] = FromF32<T>(ToF32(weight[i]) * (ToF32(in[i]) * scale));
}

template <class T, class W>
__global__ void RmsNormWide(Rows<const T> x, const W* weight, Rows<T> y, int d, float eps) {
  BeginKernel();
  __shared__ float partial[kWarp];
  const int c = 4 * int(threadIdx.x);
  const Four v = NormedFour(x.at(blockIdx.x), weight, d, eps, partial);
  if (c < d) Store4(y.at(blockIdx.x) + c, v);
}

}  // namespace

Support RmsNormBlockSupports(const Context&, const RmsNorm::Args& a) {
  VX_REQUIRE(IsElement(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(IsElement(a.weight.dtype()), "weight must be F32 or BF16");
  return {};
}

Status RmsNormBlock(const Context& ctx, const RmsNorm::Args& a) {
  const unsigned rows = unsigned(a.x.dim(0));
  if (rows == 0) return {};
  WithElement(a.x.dtype(), [&](auto x) {
    WithElement(a.weight.dtype(), [&](auto w) {
      using T = decltype(x);
      using W = decltype(w);
      const int d = int(a.x.dim(1));
      const bool wide = d <= kMaxWide && FitsLoad4(a.x) && FitsLoad4(a.y) && FitsLoad4(a.weight);
      const auto kernel = wide ? RmsNormWide<T, W> : RmsNormKernel<T, W>;
      const int threads = wide ? WideThreads(d) : kThreads;
      Launch(ctx, kernel, rows, threads, 0, RowsOf<T>(a.x), DataOf<W>(a.weight), MutRowsOf<T>(a.y), d, a.eps);
    });
  });
  return Launched(RmsNorm::kName);
}

}  // namespace vexil::gpu
