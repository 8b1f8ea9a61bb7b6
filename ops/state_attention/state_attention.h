// Attention over the KV state (spec: model, sections 8.3, 8.6, 8.7): AttentionRows, then SparseAttention over its
// lists, which need not be in memory.
#pragma once

#include "ops/attention_rows/attention_rows.h"
#include "ops/op.h"
#include "ops/sparse_attention/sparse_attention.h"

namespace vexil {

struct StateAttention {
  static constexpr std::string_view kName = "state_attention";
  struct Args {
    AttentionRows::Args lists;        // but `rows`
    SparseAttention::Args attention;  // but `rows`; the pools have as many rows as `lists` says
    int64_t columns = 0;              // of a list: at least the window and what a token sees beyond it
  };
  static Status Check(const Args& a);
};
template <>
std::span<const Kernel<StateAttention>> Kernels<StateAttention>();

// What the two ops get for lists at `rows`, I32 [n, columns].
inline AttentionRows::Args ListsWith(const StateAttention::Args& a, MutTensorView rows) {
  AttentionRows::Args lists = a.lists;
  lists.rows = rows;
  return lists;
}
inline SparseAttention::Args AttentionWith(const StateAttention::Args& a, TensorView rows) {
  SparseAttention::Args attention = a.attention;
  attention.rows = rows;
  return attention;
}
// The two ops one after the other; needs a workspace.
inline Status RunTwoOps(const Context& ctx, const StateAttention::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  const MutTensorView rows = ctx.workspace->NewTensor(DType::kI32, {a.lists.positions.dim(0), a.columns});
  VX_TRY(Run<AttentionRows>(ctx, ListsWith(a, rows)));
  return Run<SparseAttention>(ctx, AttentionWith(a, rows));
}

}  // namespace vexil
