#include "ops/compress_overlap/compress_overlap.h"

#include "ops/checks.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/compress_overlap/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<CompressOverlap>> Kernels<CompressOverlap>() {
  static constexpr Kernel<CompressOverlap> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/compress_overlap/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status CompressOverlap::Check(const Args& a) {
  VX_CHECK_ARG(CompressOverlap, a.kv.rank() == 2 && a.kv.dim(1) % 2 == 0 && a.kv.dtype() == DType::kF32,
               "kv must be F32 [n, 2d]");
  const int64_t n = a.kv.dim(0), width = a.kv.dim(1), sequences = a.slot.dim(0);
  VX_CHECK_ARG(CompressOverlap, a.ratio >= 1, "ratio must be at least 1");
  VX_CHECK_ARG(CompressOverlap, Matches(a.score, DType::kF32, {n, width}), "score must be F32 like kv");
  VX_CHECK_ARG(CompressOverlap, Matches(a.ape, DType::kF32, {a.ratio, width}), "ape must be F32 [ratio, 2d]");
  VX_CHECK_ARG(CompressOverlap, Matches(a.positions, DType::kI32, {n}), "positions must be I32 [n]");
  VX_CHECK_ARG(CompressOverlap, Matches(a.slot, DType::kI32, {sequences}), "slot must be I32 [S]");
  VX_CHECK_ARG(CompressOverlap, Matches(a.seq_begin, DType::kI32, {sequences + 1}), "seq_begin must be I32 [S + 1]");
  VX_CHECK_ARG(CompressOverlap, Matches(a.entry_begin, DType::kI32, {sequences + 1}),
               "entry_begin must be I32 [S + 1]");
  VX_CHECK_ARG(CompressOverlap, a.ring.rank() == 4 && a.ring.dim(1) >= 2 * a.ratio,
               "ring must be [slots, cap, 2, 2d] with cap >= 2 * ratio");
  VX_CHECK_ARG(CompressOverlap, Matches(a.ring, DType::kF32, {a.ring.dim(0), a.ring.dim(1), 2, width}),
               "ring must be F32 [slots, cap, 2, 2d]");
  VX_CHECK_ARG(CompressOverlap, a.ape.IsContiguous() && a.ring.IsContiguous(), "ape and ring must be contiguous");
  VX_CHECK_ARG(CompressOverlap, a.entries.rank() == 2 && a.entries.dim(1) == width / 2, "entries must be [M, d]");
  return {};
}
}  // namespace vexil
