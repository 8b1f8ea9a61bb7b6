// A block per token and 256 columns; the order of a token's experts is worked out once per block.
#include "ops/gpu_kernel.cuh"
#include "ops/moe_combine/moe_combine.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void MoeCombineKernel(Rows<const T> y, Rows<const int32_t> experts, Rows<const int32_t> pair_of,
                                 Rows<const T> shared_expert, Rows<T> out, int k, int d) {
  BeginKernel();
  extern __shared__ int32_t pairs[];  // in ascending order of expert
  const int64_t t = blockIdx.x;
  for (int s = threadIdx.x; s < k; s += kThreads) {
    const int32_t mine = experts.at(t)[s];
    int rank = 0;
    for (int other = 0; other < k; ++other) {
      const int32_t e = experts.at(t)[other];
      rank += e < mine || (e == mine && other < s);
    }
    pairs[rank] = pair_of.at(t)[s];
  }
  __syncthreads();
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (c >= d) return;
  float sum = 0;
  for (int i = 0; i < k; ++i) sum += ToF32(y.at(pairs[i])[c]);
  out.at(t)[c] = FromF32<T>(sum + ToF32(shared_expert.at(t)[c]));
}

}  // namespace

Support MoeCombineElementSupports(const Context&, const MoeCombine::Args& a) {
  VX_REQUIRE(IsElement(a.y.dtype()), "y must be F32 or BF16");
  VX_REQUIRE(a.experts.dim(1) <= 4096, "more than 4096 experts per token");
  return {};
}

Status MoeCombineElement(const Context& ctx, const MoeCombine::Args& a) {
  const dim3 grid(unsigned(a.out.dim(0)), Blocks(a.out.dim(1), kThreads));
  const int k = int(a.experts.dim(1));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.y.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, MoeCombineKernel<T>, grid, kThreads, size_t(k) * sizeof(int32_t), RowsOf<T>(a.y),
           RowsOf<int32_t>(a.experts), RowsOf<int32_t>(a.pair_of), RowsOf<T>(a.shared), MutRowsOf<T>(a.out), k,
           int(a.out.dim(1)));
  });
  return Launched(MoeCombine::kName);
}

}  // namespace vexil::gpu
