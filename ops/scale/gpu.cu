// A thread per element.
#include "ops/gpu_kernel.cuh"
#include "ops/scale/scale.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void ScaleKernel(Rows<const T> x, float factor, Rows<T> y, int d) {
  BeginKernel();
  const int i = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (i < d) y.at(blockIdx.x)[i] = FromF32<T>(ToF32(x.at(blockIdx.x)[i]) * factor);
}

}  // namespace

Support ScaleElementSupports(const Context&, const Scale::Args& a) {
  VX_REQUIRE(IsElement(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status ScaleElement(const Context& ctx, const Scale::Args& a) {
  const dim3 grid(unsigned(a.x.dim(0)), Blocks(a.x.dim(1), kThreads));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.x.dtype(), [&](auto x) {
    using T = decltype(x);
    Launch(ctx, ScaleKernel<T>, grid, kThreads, 0, RowsOf<T>(a.x), a.factor, MutRowsOf<T>(a.y), int(a.x.dim(1)));
  });
  return Launched(Scale::kName);
}

}  // namespace vexil::gpu
