// What the lines in ops/<op>/kernels.inc mean.
//
// A line VX_CPU(RmsNorm, "rms_norm/cpu.plain", RmsNormPlain) names the kernel's id and the functions
// vexil::cpu::RmsNormPlain and vexil::cpu::RmsNormPlainSupports. A device that is not part of this build
// drops out here, in one place: the lists need no #if. Used by each ops/<op>/<op>.cc:
//
//   #define VX_KERNEL VX_DECLARE_KERNEL
//   #include "ops/rms_norm/kernels.inc"
//   #undef VX_KERNEL
//   template <> std::span<const Kernel<RmsNorm>> Kernels<RmsNorm>() {
//     static constexpr Kernel<RmsNorm> kTable[] = {
//   #define VX_KERNEL VX_KERNEL_ENTRY
//   #include "ops/rms_norm/kernels.inc"
//   #undef VX_KERNEL
//     };
//     return kTable;
//   }
#pragma once

#define VX_CPU(op, id, fn) VX_KERNEL(op, id, kCpu, cpu, fn, false)
// A kernel that is made of calls of other ops (Kernel::of_ops).
#define VX_CPU_OF_OPS(op, id, fn) VX_KERNEL(op, id, kCpu, cpu, fn, true)
#if defined(__x86_64__)
#define VX_CPU_X86(op, id, fn) VX_CPU(op, id, fn)
#else
#define VX_CPU_X86(op, id, fn)
#endif
// The kernels of one vector source, one per level (ops/vectors/levels.h). `folder` is a string literal.
#define VX_CPU_VECTORS(op, folder)                 \
  VX_CPU_X86(op, folder "/cpu.avx512", op##Avx512) \
  VX_CPU_X86(op, folder "/cpu.avx2", op##Avx2)     \
  VX_CPU(op, folder "/cpu.portable", op##Portable)
#if VX_WITH_CUDA
#define VX_CUDA(op, id, fn) VX_KERNEL(op, id, kCuda, gpu, fn, false)
#define VX_CUDA_OF_OPS(op, id, fn) VX_KERNEL(op, id, kCuda, gpu, fn, true)
#else
#define VX_CUDA(op, id, fn)
#define VX_CUDA_OF_OPS(op, id, fn)
#endif
// Kernels of CUDA builds for sm_90a only (cuda_*.cu).
#if VX_WITH_CUDA && VX_WITH_HOPPER
#define VX_HOPPER(op, id, fn) VX_KERNEL(op, id, kCuda, gpu, fn, false)
#else
#define VX_HOPPER(op, id, fn)
#endif

#define VX_DECLARE_KERNEL(op, id, dev, ns, fn, of_ops)   \
  namespace ns {                                         \
  Support fn##Supports(const Context&, const op::Args&); \
  Status fn(const Context&, const op::Args&);            \
  }
#define VX_KERNEL_ENTRY(op, id, dev, ns, fn, of_ops) {id, DeviceKind::dev, &ns::fn##Supports, &ns::fn, of_ops},
