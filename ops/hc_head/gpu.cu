// Two kernels, as HcPre: the mixes, then a block per token and 1024 columns.
#include "ops/hc_head/hc_head.h"
#include "ops/hc_pre/gpu_mixes.cuh"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void HcHeadKernel(Rows<const T> h, int m, int d, Mixes mixes, const float* scale, const float* base,
                             float norm_eps, float hc_eps, Rows<T> x) {
  BeginKernel();
  __shared__ float pre[HcHead::kMaxStreams];
  const int64_t t = blockIdx.x;
  const int s = int(threadIdx.x);
  if (s < m) pre[s] = Sigmoid(mixes.at(t, s) * mixes.InverseRms(t, d, norm_eps) * scale[0] + base[s]) + hc_eps;
  __syncthreads();
  MixStreams(h, t, m, d, pre, x.at(t));
}

}  // namespace

Support HcHeadTwoPassSupports(const Context& ctx, const HcHead::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status HcHeadTwoPass(const Context& ctx, const HcHead::Args& a) {
  const unsigned n = unsigned(a.h.dim(0));
  if (n == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  WithElement(a.h.dtype(), [&](auto e) {
    using T = decltype(e);
    const Mixes mixes = MakeMixes<T>(ctx, a.h, a.fn);
    Launch(ctx, HcHeadKernel<T>, dim3(n, Blocks(a.h.dim(2), kMixColumns)), kThreads, 0, RowsOf<T>(a.h), int(a.h.dim(1)),
           int(a.h.dim(2)), mixes, DataOf<float>(a.scale), DataOf<float>(a.base), a.norm_eps, a.hc_eps,
           MutRowsOf<T>(a.x));
  });
  return Launched(HcHead::kName);
}

}  // namespace vexil::gpu
