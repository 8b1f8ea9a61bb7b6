// The kernels that one vector source makes: one per level of base/cpu_isa.h that has vectors of its own.
//
//   // rms_norm/cpu_vectors.cc, in the namespace of each target:
//   Status RmsNormVectors(const Context& ctx, const RmsNorm::Args& a) { ... }
//   // once, at its end:
//   static Support RmsNormVectorsSupport(const Context&, const RmsNorm::Args& a) { ... }  // what the arguments must be
//   HWY_EXPORT(RmsNormVectors);
//   VX_VECTOR_KERNELS(RmsNorm)
//
//   // rms_norm/kernels.inc
//   VX_CPU_VECTORS(RmsNorm, "rms_norm")
#pragma once

#include <hwy/highway.h>

#include "base/cpu_isa.h"
#include "ops/op.h"

namespace vexil::cpu {

// The place of a level's version in a table of HWY_EXPORT with `entries` entries.
inline size_t VectorVersion(CpuIsa isa, size_t entries) {
  if (entries == 1) return 0;  // compiled for one target only
  int64_t targets = hwy::SupportedTargets();
  // Better targets are lower bits.
  if (isa < CpuIsa::kAvx512) targets &= ~(HWY_AVX2 - 1);
  if (isa < CpuIsa::kAvx2) targets &= ~HWY_AVX2;
  hwy::ChosenTarget chosen;
  chosen.Update(targets);
  return chosen.GetIndex();
}

}  // namespace vexil::cpu

#define VX_VECTOR_KERNEL(Op, Level)                                                                            \
  Support Op##Level##Supports(const Context& ctx, const Op::Args& a) {                                         \
    VX_REQUIRE(ctx.HasIsa(CpuIsa::k##Level), "not on this processor, or --cpu-isa forbids it");                \
    return Op##VectorsSupport(ctx, a);                                                                         \
  }                                                                                                            \
  Status Op##Level(const Context& ctx, const Op::Args& a) {                                                    \
    static const size_t version = VectorVersion(CpuIsa::k##Level, std::size(HWY_DISPATCH_TABLE(Op##Vectors))); \
    return HWY_DISPATCH_TABLE(Op##Vectors)[version](ctx, a);                                                   \
  }

#if defined(__x86_64__)
#define VX_VECTOR_KERNELS(Op)  \
  VX_VECTOR_KERNEL(Op, Avx512) \
  VX_VECTOR_KERNEL(Op, Avx2)   \
  VX_VECTOR_KERNEL(Op, Portable)
#else
#define VX_VECTOR_KERNELS(Op) VX_VECTOR_KERNEL(Op, Portable)
#endif
