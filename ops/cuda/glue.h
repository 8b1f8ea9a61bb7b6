// From an op's call to a launcher of ops/cuda/launch.h and back. For .cu files.
#pragma once

#include "ops/cuda/launch.h"
#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

// Without a device a plan is made for the chip that the kernels are written for.
inline bool IsHopper(const Context& ctx) { return ctx.accelerator == nullptr || ctx.accelerator->caps().major == 9; }

// The kernels behind these launchers wait for their predecessor themselves, before they touch what it may have written.
inline cuda::Launch LaunchOf(const Context& ctx) {
  return {.stream = StreamOf(ctx), .sms = ctx.accelerator->caps().multiprocessors, .overlap = true};
}

inline Status Issued(std::string_view op, cudaError_t e) {
  if (e == cudaSuccess) return {};
  (void)cudaGetLastError();
  return Unavailable(std::string(op) + ": cannot start the kernel: " + cudaGetErrorString(e));
}

// Whether rows begin at multiples of 16 bytes, as bulk and vector copies need.
inline bool Fits16Bytes(const TensorView& v) {
  bool fits = reinterpret_cast<uintptr_t>(v.raw()) % 16 == 0;
  for (int i = 0; i + 1 < v.rank(); ++i) fits = fits && v.stride(i) * BytesOf(v.dtype()) % 16 == 0;
  return fits;
}

}  // namespace vexil::gpu
