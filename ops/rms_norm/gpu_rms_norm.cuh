// RMS norm of a row by a block that holds it in registers.
#pragma once

#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {

inline constexpr int kMaxWide = 4096;  // elements of a row: 4 for each of 1024 threads
inline int WideThreads(int d) { return int(Blocks(d, 4 * kWarp)) * kWarp; }

// Elements 4t .. 4t + 3 of the normed row by thread t of WideThreads(d), not yet rounded; zeros beyond d. d is a
// multiple of 4. `partial`: 32 floats of shared memory.
template <class T, class W>
__device__ inline Four NormedFour(const T* x, const W* weight, int d, float eps, float* partial) {
  const int c = 4 * int(threadIdx.x);
  Four v = {}, w = {};
  if (c < d) v = Load4(x + c), w = Load4(weight + c);
  const float sum = BlockReduce(v.v[0] * v.v[0] + v.v[1] * v.v[1] + v.v[2] * v.v[2] + v.v[3] * v.v[3], partial, 0.0f);
  const float scale = 1.0f / sqrtf(sum / float(d) + eps);
  for (int i = 0; i < 4; ++i) v.v[i] = w.v[i] * (v.v[i] * scale);
  return v;
}

}  // namespace vexil::gpu
