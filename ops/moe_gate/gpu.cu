// A warp per token: scores in shared memory, then k times the best key behind the last one taken.
#include "ops/moe_gate/gpu_token.cuh"

namespace vexil::gpu {
namespace {

constexpr int64_t kMaxExperts = 8192, kMaxChosen = 2048;

__global__ void MoeGateKernel(GateCall c) {
  BeginKernel();
  extern __shared__ float p[];
  GateToken(c, blockIdx.x, p, reinterpret_cast<int32_t*>(p + c.num_experts));
}

}  // namespace

Support MoeGateWarpSupports(const Context&, const MoeGate::Args& a) {
  VX_REQUIRE(a.logits.dim(1) <= kMaxExperts, "more than 8192 experts");
  VX_REQUIRE(a.k <= kMaxChosen, "more than 2048 experts per token");
  return {};
}

Status MoeGateWarp(const Context& ctx, const MoeGate::Args& a) {
  const unsigned n = unsigned(a.logits.dim(0));
  if (n == 0) return {};
  Launch(ctx, MoeGateKernel, n, kWarp, size_t(a.logits.dim(1) + a.k) * sizeof(float), GateCallOf(a));
  return Launched(MoeGate::kName);
}

}  // namespace vexil::gpu
