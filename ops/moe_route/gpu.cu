// Few tokens in one block: a warp per token chooses its experts (MoeGate), then a thread per pair counts the pairs that
// come before it, and a thread per expert those of lower experts. More tokens: the two ops.
#include "ops/moe_gate/gpu_token.cuh"
#include "ops/moe_route/moe_route.h"

namespace vexil::gpu {
namespace {

constexpr int kMaxTokens = 8, kMaxPairs = 512;  // with more, one multiprocessor is slower than two launches
constexpr int kMostWarps = 16;
constexpr int64_t kMaxScoreBytes = 32 * 1024;  // of all warps

struct DispatchCall {
  int32_t *offsets, *pair_token, *pair_slot, *pair_of;
};

// Dynamic shared memory: the chosen experts of all tokens, then a score per expert for each warp.
__global__ void __launch_bounds__(kMostWarps* kWarp) MoeRouteKernel(GateCall c, DispatchCall d, int n) {
  BeginKernel();
  extern __shared__ int32_t chosen[];
  const int pairs = n * c.k, threads = int(blockDim.x);
  float* const p = reinterpret_cast<float*>(chosen + pairs) + Warp() * c.num_experts;
  for (int t = Warp(); t < n; t += threads / kWarp) {
    GateToken(c, t, p, chosen + t * c.k);
    SyncWarp();
  }
  __syncthreads();
  for (int i = int(threadIdx.x); i < pairs; i += threads) {
    const int mine = chosen[i];
    int pair = 0;
    for (int other = 0; other < pairs; ++other) pair += chosen[other] < mine || (chosen[other] == mine && other < i);
    d.pair_token[pair] = i / c.k;
    d.pair_slot[pair] = i;
    d.pair_of[i] = pair;
  }
  for (int e = int(threadIdx.x); e <= c.num_experts; e += threads) {
    int lower = 0;
    for (int other = 0; other < pairs; ++other) lower += chosen[other] < e;
    d.offsets[e] = lower;
  }
}

int WarpsFor(const MoeRoute::Args& a) {
  const int64_t tokens = a.gate.logits.dim(0), fit = kMaxScoreBytes / (a.gate.logits.dim(1) * int64_t(sizeof(float)));
  // The counting wants threads even when tokens are few.
  const int64_t warps = tokens < 8 ? 8 : tokens;
  return int(warps < fit ? (warps < kMostWarps ? warps : kMostWarps) : (fit < kMostWarps ? fit : kMostWarps));
}

}  // namespace

Support MoeRouteBlockSupports(const Context&, const MoeRoute::Args& a) {
  const int64_t n = a.gate.logits.dim(0);
  VX_REQUIRE(n <= kMaxTokens && n * a.gate.k <= kMaxPairs, "many tokens");
  VX_REQUIRE(a.gate.logits.dim(1) * int64_t(sizeof(float)) <= kMaxScoreBytes, "more than 8192 experts");
  return {};
}

Status MoeRouteBlock(const Context& ctx, const MoeRoute::Args& a) {
  const int n = int(a.gate.logits.dim(0)), warps = WarpsFor(a);
  const size_t shared = sizeof(int32_t) * (size_t(n * a.gate.k) + size_t(warps) * size_t(a.gate.logits.dim(1)));
  Launch(ctx, MoeRouteKernel, 1, warps * kWarp, shared, GateCallOf(a.gate),
         DispatchCall{MutDataOf<int32_t>(a.offsets), MutDataOf<int32_t>(a.pair_token), MutDataOf<int32_t>(a.pair_slot),
                      MutDataOf<int32_t>(a.pair_of)},
         n);
  return Launched(MoeRoute::kName);
}

Support MoeRouteOpsSupports(const Context&, const MoeRoute::Args&) { return {}; }

Status MoeRouteOps(const Context& ctx, const MoeRoute::Args& a) {
  VX_TRY(Run<MoeGate>(ctx, a.gate));
  return Run<MoeDispatch>(ctx, a.dispatch());
}

}  // namespace vexil::gpu
