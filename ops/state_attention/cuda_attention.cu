// The Hopper kernel of SparseAttention, whose blocks find out themselves which rows a token lists.
#include "ops/attention_rows/gpu_lists.cuh"
#include "ops/sparse_attention/cuda_glue.h"
#include "ops/state_attention/state_attention.h"

namespace vexil::gpu {

Support StateAttentionHopperSupports(const Context& ctx, const StateAttention::Args& a) {
  VX_REQUIRE(a.columns > 0, "an empty list");
  return HopperAttentionSupports(ctx, a.attention);
}

Status StateAttentionHopper(const Context& ctx, const StateAttention::Args& a) {
  if (a.attention.q.dim(0) == 0) return {};
  cuda::AttentionCall c = AttentionCallOf(a.attention);
  c.pool_rows[0] = a.lists.step_rows;
  c.lists = ListsOf(a.lists);
  c.columns = int(a.columns);
  return IssueAttention(ctx, StateAttention::kName, c);
}

}  // namespace vexil::gpu
