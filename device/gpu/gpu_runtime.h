// One set of names for the CUDA and the HIP runtime, which differ in little else. CUDA's is linked statically and opens
// the driver when it is first used, so a program starts on a machine without a GPU.
#pragma once

#if defined(VX_WITH_HIP)
#include <hip/hip_runtime.h>
#elif defined(__HIP__)
#include "device/gpu/hip_check.h"
#else
#include <cuda_runtime.h>
#endif

#if defined(__HIP__) || defined(VX_WITH_HIP)
#define VX_GPU_NAME(name) hip##name
#else
#define VX_GPU_NAME(name) cuda##name
#endif

namespace vexil::gpu {
using Error = VX_GPU_NAME(Error_t);
using Stream = VX_GPU_NAME(Stream_t);
inline constexpr Error kSuccess = VX_GPU_NAME(Success);
}  // namespace vexil::gpu
