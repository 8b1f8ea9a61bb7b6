// A warp per expert: it counts the entries of lower experts, which gives its offset, then deals out its own in order.
// One launch, no atomics; each warp reads the list twice, from cache.
#include "ops/gpu_kernel.cuh"
#include "ops/moe_dispatch/moe_dispatch.h"

namespace vexil::gpu {
namespace {

__global__ void MoeDispatchKernel(const int32_t* experts, int pairs, int k, int num_experts, int32_t* offsets,
                                  int32_t* pair_token, int32_t* pair_slot, int32_t* pair_of) {
  BeginKernel();
  const int mine = int(blockIdx.x);
  int lower = 0;
  for (int i = Lane(); i < pairs; i += kWarp) lower += experts[i] < mine;
  int next = WarpReduce(lower);
  if (Lane() == 0) {
    offsets[mine] = next;
    if (mine == 0) offsets[num_experts] = pairs;
  }
  for (int begin = 0; begin < pairs; begin += kWarp) {
    const int i = begin + Lane();
    const bool own = i < pairs && experts[i] == mine;
    const uint32_t all = Ballot(own);
    if (own) {
      const int pair = next + __popc(all & ((1u << Lane()) - 1u));
      pair_token[pair] = i / k;
      pair_slot[pair] = i;
      pair_of[i] = pair;
    }
    next += __popc(all);
  }
}

}  // namespace

Support MoeDispatchWarpSupports(const Context&, const MoeDispatch::Args&) { return {}; }

Status MoeDispatchWarp(const Context& ctx, const MoeDispatch::Args& a) {
  Launch(ctx, MoeDispatchKernel, unsigned(a.num_experts), kWarp, 0, DataOf<int32_t>(a.experts),
         int(a.experts.dims().Count()), int(a.experts.dim(1)), int(a.num_experts), MutDataOf<int32_t>(a.offsets),
         MutDataOf<int32_t>(a.pair_token), MutDataOf<int32_t>(a.pair_slot), MutDataOf<int32_t>(a.pair_of));
  return Launched(MoeDispatch::kName);
}

}  // namespace vexil::gpu
