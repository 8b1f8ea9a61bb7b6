#include "ops/compress_running/compress_running.h"

#include "ops/checks.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/compress_running/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<CompressRunning>> Kernels<CompressRunning>() {
  static constexpr Kernel<CompressRunning> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/compress_running/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status CompressRunning::Check(const Args& a) {
  VX_CHECK_ARG(CompressRunning, a.kv.rank() == 2 && a.kv.dtype() == DType::kF32, "kv must be F32 [n, d]");
  const int64_t n = a.kv.dim(0), d = a.kv.dim(1), sequences = a.slot.dim(0);
  VX_CHECK_ARG(CompressRunning, a.ratio >= 1, "ratio must be at least 1");
  VX_CHECK_ARG(CompressRunning, Matches(a.score, DType::kF32, {n, d}), "score must be F32 like kv");
  VX_CHECK_ARG(CompressRunning, Matches(a.ape, DType::kF32, {a.ratio, d}), "ape must be F32 [ratio, d]");
  VX_CHECK_ARG(CompressRunning, Matches(a.positions, DType::kI32, {n}), "positions must be I32 [n]");
  VX_CHECK_ARG(CompressRunning, Matches(a.slot, DType::kI32, {sequences}), "slot must be I32 [S]");
  VX_CHECK_ARG(CompressRunning, Matches(a.seq_begin, DType::kI32, {sequences + 1}), "seq_begin must be I32 [S + 1]");
  VX_CHECK_ARG(CompressRunning, Matches(a.entry_begin, DType::kI32, {sequences + 1}),
               "entry_begin must be I32 [S + 1]");
  VX_CHECK_ARG(CompressRunning, a.state.rank() == 4 && a.state.dim(1) >= 1,
               "state must be [slots, cap, 3, d] with cap >= 1");
  VX_CHECK_ARG(CompressRunning, Matches(a.state, DType::kF32, {a.state.dim(0), a.state.dim(1), 3, d}),
               "state must be F32 [slots, cap, 3, d]");
  VX_CHECK_ARG(CompressRunning, a.ape.IsContiguous() && a.state.IsContiguous(), "ape and state must be contiguous");
  VX_CHECK_ARG(CompressRunning, a.entries.rank() == 2 && a.entries.dim(1) == d, "entries must be [M, d]");
  return {};
}
}  // namespace vexil
