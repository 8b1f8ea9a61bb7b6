#include "ops/state_attention/state_attention.h"

#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/state_attention/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<StateAttention>> Kernels<StateAttention>() {
  static constexpr Kernel<StateAttention> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/state_attention/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status StateAttention::Check(const Args& a) {
  VX_CHECK_ARG(StateAttention, a.columns >= 0, "columns must not be negative");
  const MutTensorView rows(nullptr, DType::kI32, {a.lists.positions.dim(0), a.columns});
  VX_TRY(AttentionRows::Check(ListsWith(a, rows)));
  VX_TRY(SparseAttention::Check(AttentionWith(a, rows)));
  const SparseAttention::Args& pools = a.attention;
  VX_CHECK_ARG(StateAttention, pools.step_kv.dim(0) >= a.lists.step_rows || a.lists.step_rows == 0,
               "step_kv must have step_rows rows");
  VX_CHECK_ARG(StateAttention, (pools.window_kv.empty() ? 0 : pools.window_kv.dim(0)) == a.lists.window_rows,
               "window_kv must have window_rows rows");
  return {};
}
}  // namespace vexil
