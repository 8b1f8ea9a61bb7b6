// From a call of SparseAttention to the Hopper kernel, which is written for V4-Flash's heads. For .cu files.
#pragma once

#include <cstdint>

#include "ops/cuda/glue.h"
#include "ops/sparse_attention/cuda_hopper.h"
#include "ops/sparse_attention/sparse_attention.h"

namespace vexil::gpu {

// Without the lists.
inline Support HopperAttentionSupports(const Context& ctx, const SparseAttention::Args& a) {
  VX_REQUIRE(IsHopper(ctx), "needs a Hopper GPU");
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.q.dtype() == DType::kBF16, "q must be BF16");
  VX_REQUIRE(a.q.dim(1) == cuda::kAttentionHeads && a.q.dim(2) == cuda::kAttentionWidth,
             "needs 64 heads of 512 channels");
  VX_REQUIRE(Fits16Bytes(a.q) && Fits16Bytes(a.y) && Fits16Bytes(a.step_kv), "rows are not aligned to 16 bytes");
  VX_REQUIRE(
      (a.window_kv.empty() || Fits16Bytes(a.window_kv)) && (a.compressed_kv.empty() || Fits16Bytes(a.compressed_kv)),
      "rows of a pool are not aligned to 16 bytes");
  return {};
}

// Without the lists.
inline cuda::AttentionCall AttentionCallOf(const SparseAttention::Args& a) {
  cuda::AttentionCall c;
  c.q = a.q.raw();
  c.q_token_stride = a.q.stride(0);
  c.q_head_stride = a.q.stride(1);
  c.y = a.y.mut_raw();
  c.y_token_stride = a.y.stride(0);
  c.y_head_stride = a.y.stride(1);
  c.n = int(a.q.dim(0));
  const TensorView* const pools[] = {&a.step_kv, &a.window_kv, &a.compressed_kv};
  for (int i = 0; i < 3; ++i) {
    if (pools[i]->empty()) continue;
    c.pool[i] = pools[i]->raw();
    c.pool_rows[i] = pools[i]->dim(0);
    c.pool_stride[i] = pools[i]->stride(0);
  }
  c.sink = DataOf<float>(a.sink);
  c.scale = a.scale;
  return c;
}

inline Status IssueAttention(const Context& ctx, std::string_view op, const cuda::AttentionCall& c) {
  const Arena::Scope scope(*ctx.workspace);
  void* workspace = ctx.workspace->Allocate(size_t(cuda::AttentionWorkspace(c)));
  return Issued(op, cuda::Attention(LaunchOf(ctx), c, workspace));
}

}  // namespace vexil::gpu
