// Every format and shape: a warp per column of y and tile of rows. Reads w once per tile of rows; meant for few rows
// and as the fallback of faster kernels.
#include "ops/linear/gpu_dot.cuh"
#include "ops/linear/linear.h"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 8;

template <DType kType, int R>
__global__ void LinearKernel(Operand x, Operand w, Output y, int n, int out, int k) {
  BeginKernel();
  const int64_t j = int64_t(blockIdx.x) * kWarps + Warp();
  const int64_t first = int64_t(blockIdx.y) * R;
  if (j >= out) return;
  const int rows = n - first < R ? int(n - first) : R;
  float sum[R];
  Dot<kType, R>(
      x, w, j, k, rows, y.bf16, [&](int r) { return first + r; }, sum);
  if (Lane() != 0) return;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (r < rows) y.Store(first + r, j, sum[r]);
  }
}

}  // namespace

Support LinearWarpSupports(const Context&, const Linear::Args& a) {
  return WarpOperands(a.x.data.dtype(), a.w.data.dtype());
}

Status LinearWarp(const Context& ctx, const Linear::Args& a) {
  const int n = int(a.x.data.dim(0)), out = int(a.w.data.dim(0)), k = int(a.x.Columns());
  if (n == 0) return {};
  const Operand x = OperandOf(a.x), w = OperandOf(a.w);
  WithWeightType(a.w.data.dtype(), [&]<DType kType>() {
    const auto run = [&]<int R>(std::integral_constant<int, R>) {
      Launch(ctx, LinearKernel<kType, R>, dim3(Blocks(out, kWarps), Blocks(n, R)), kWarps * kWarp, 0, x, w,
             OutputOf(a.y), n, out, k);
    };
    n == 1 ? run(std::integral_constant<int, 1>()) : run(std::integral_constant<int, 8>());
  });
  return Launched(Linear::kName);
}

}  // namespace vexil::gpu
