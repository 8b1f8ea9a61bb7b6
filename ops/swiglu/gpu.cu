// A thread per element.
#include "ops/gpu_kernel.cuh"
#include "ops/swiglu/swiglu.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;

// As std::clamp: NaN passes through.
__device__ inline float Clamp(float v, float low, float high) { return v < low ? low : high < v ? high : v; }

template <class T>
__global__ void SwigluKernel(Rows<const T> gates, Rows<const T> ups, const float* row_weight, const int32_t* row_index,
                             float limit, Rows<T> y, int width) {
  BeginKernel();
  const int i = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (i >= width) return;
  const int64_t r = blockIdx.x;
  const float weight = row_weight ? row_weight[row_index ? row_index[r] : r] : 1.0f;
  const float gate = Clamp(ToF32(gates.at(r)[i]), -INFINITY, limit);
  const float up = Clamp(ToF32(ups.at(r)[i]), -limit, limit);
  y.at(r)[i] = FromF32<T>(gate / (1.0f + expf(-gate)) * up * weight);
}

}  // namespace

Support SwigluElementSupports(const Context&, const Swiglu::Args& a) {
  VX_REQUIRE(IsElement(a.a.dtype()), "a must be F32 or BF16");
  return {};
}

Status SwigluElement(const Context& ctx, const Swiglu::Args& a) {
  const dim3 grid(unsigned(a.a.dim(0)), Blocks(a.a.dim(1), kThreads));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.a.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, SwigluKernel<T>, grid, kThreads, 0, RowsOf<T>(a.a), RowsOf<T>(a.b), DataOf<float>(a.row_weight),
           DataOf<int32_t>(a.row_index), a.limit > 0 ? a.limit : INFINITY, MutRowsOf<T>(a.y), int(a.a.dim(1)));
  });
  return Launched(Swiglu::kName);
}

}  // namespace vexil::gpu
