// SparseAttention on the Hopper kernel.
#include "ops/sparse_attention/cuda_glue.h"

namespace vexil::gpu {

Support SparseAttentionHopperSupports(const Context& ctx, const SparseAttention::Args& a) {
  VX_REQUIRE(a.rows.dim(1) > 0, "an empty list");
  return HopperAttentionSupports(ctx, a);
}

Status SparseAttentionHopper(const Context& ctx, const SparseAttention::Args& a) {
  if (a.q.dim(0) == 0) return {};
  cuda::AttentionCall c = AttentionCallOf(a);
  c.rows = DataOf<int32_t>(a.rows);
  c.rows_stride = a.rows.stride(0);
  c.columns = int(a.rows.dim(1));
  return IssueAttention(ctx, SparseAttention::kName, c);
}

}  // namespace vexil::gpu
