// A block per token: its rotations are computed once, in f64 as the definition asks, and shared by all heads.
#include "ops/gpu_kernel.cuh"
#include "ops/rope/rope.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void RopeKernel(Rows<T> x, const int32_t* positions, const float* freqs, int heads, int d, int pairs,
                           bool inverse) {
  BeginKernel();
  extern __shared__ float2 rotation[];
  const float position = float(positions[blockIdx.x]);
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    const float angle = position * freqs[i];
    double sine, cosine;
    sincos(double(angle), &sine, &cosine);
    rotation[i] = float2{float(cosine), inverse ? -float(sine) : float(sine)};
  }
  __syncthreads();
  for (int i = threadIdx.x; i < heads * pairs; i += kThreads) {
    T* pair = x.at(blockIdx.x, i / pairs) + d - 2 * pairs + i % pairs * 2;
    const float2 r = rotation[i % pairs];
    const float a = ToF32(pair[0]), b = ToF32(pair[1]);
    pair[0] = FromF32<T>(a * r.x - b * r.y);
    pair[1] = FromF32<T>(a * r.y + b * r.x);
  }
}

}  // namespace

Support RopeBlockSupports(const Context&, const Rope::Args& a) {
  VX_REQUIRE(IsElement(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.freqs.dim(0) <= 4096, "more than 4096 pairs");
  return {};
}

Status RopeBlock(const Context& ctx, const Rope::Args& a) {
  const unsigned tokens = unsigned(a.x.dim(0));
  const int pairs = int(a.freqs.dim(0));
  if (tokens == 0 || pairs == 0) return {};
  WithElement(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, RopeKernel<T>, tokens, kThreads, size_t(pairs) * sizeof(float2), MutRowsOf<T>(a.x),
           DataOf<int32_t>(a.positions), DataOf<float>(a.freqs), int(a.x.dim(1)), int(a.x.dim(2)), pairs, a.inverse);
  });
  return Launched(Rope::kName);
}

}  // namespace vexil::gpu
