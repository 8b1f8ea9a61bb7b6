// A block per row, butterflies in shared memory.
#include <cmath>

#include "ops/gpu_kernel.cuh"
#include "ops/hadamard/hadamard.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 64;
constexpr int64_t kMaxWidth = 8192;

template <class T>
__global__ void HadamardKernel(Rows<T> x, int d, float factor) {
  BeginKernel();
  extern __shared__ float v[];
  T* row = x.at(blockIdx.x);
  for (int i = threadIdx.x; i < d; i += kThreads) v[i] = ToF32(row[i]);
  for (int distance = 1; distance < d; distance *= 2) {
    __syncthreads();
    for (int p = threadIdx.x; p < d / 2; p += kThreads) {
      const int i = p / distance * 2 * distance + p % distance;
      const float a = v[i], b = v[i + distance];
      v[i] = a + b;
      v[i + distance] = a - b;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < d; i += kThreads) row[i] = FromF32<T>(v[i] * factor);
}

}  // namespace

Support HadamardBlockSupports(const Context&, const Hadamard::Args& a) {
  VX_REQUIRE(IsElement(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.x.dim(1) <= kMaxWidth, "d must be at most 8192");
  return {};
}

Status HadamardBlock(const Context& ctx, const Hadamard::Args& a) {
  const unsigned rows = unsigned(a.x.dim(0));
  const int d = int(a.x.dim(1));
  if (rows == 0) return {};
  WithElement(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, HadamardKernel<T>, rows, kThreads, size_t(d) * sizeof(float), MutRowsOf<T>(a.x), d,
           float(1.0 / std::sqrt(double(d))));
  });
  return Launched(Hadamard::kName);
}

}  // namespace vexil::gpu
