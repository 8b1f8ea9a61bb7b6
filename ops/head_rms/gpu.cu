// A warp per head. Lane l takes the elements l, l + 32, ...; the lanes are added at distances 16, 8, ..., 1.
#include "ops/gpu_kernel.cuh"
#include "ops/head_rms/head_rms.h"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 8;

template <class T>
__global__ void HeadRmsKernel(Rows<T> x, int heads, int d, float eps) {
  BeginKernel();
  const int h = int(blockIdx.y) * kWarps + Warp();
  if (h >= heads) return;
  T* v = x.at(blockIdx.x, h);
  float sum = 0;
  for (int i = Lane(); i < d; i += kWarp) sum += Rounded<T>(__fmul_rn(ToF32(v[i]), ToF32(v[i])));
  float m = Rounded<T>(WarpReduce(sum) / float(d));
  m = Rounded<T>(m + eps);
  const float r = Rounded<T>(1.0f / sqrtf(m));
  for (int i = Lane(); i < d; i += kWarp) v[i] = FromF32<T>(ToF32(v[i]) * r);
}

}  // namespace

Support HeadRmsWarpSupports(const Context&, const HeadRms::Args&) { return {}; }

Status HeadRmsWarp(const Context& ctx, const HeadRms::Args& a) {
  const dim3 grid(unsigned(a.x.dim(0)), Blocks(a.x.dim(1), kWarps));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, HeadRmsKernel<T>, grid, kWarps * kWarp, 0, MutRowsOf<T>(a.x), int(a.x.dim(1)), int(a.x.dim(2)), a.eps);
  });
  return Launched(HeadRms::kName);
}

}  // namespace vexil::gpu
