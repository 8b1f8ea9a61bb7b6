// What the kernel benches share: memory, random data, clocks, ceilings, and the comparison with a float64 reference.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ops/cuda/launch.h"

#define CUDA_OK(call)                                                                                   \
  do {                                                                                                  \
    const cudaError_t vx_error = (call);                                                                \
    if (vx_error != cudaSuccess) {                                                                      \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(vx_error)); \
      std::exit(1);                                                                                     \
    }                                                                                                   \
  } while (0)

namespace bench {

using vexil::cuda::Launch;

// ---- data ----

__host__ __device__ inline uint32_t Hash(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdull;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ull;
  return uint32_t(x >> 32);
}
enum class Fill { kBytes, kE4M3, kBF16, kF32, kExponent };
// kBytes: any. kE4M3: any number. kBF16, kF32: bell-shaped, deviation `a`. kExponent: uniform in [a, b].
__global__ void FillKernel(Fill kind, void* to, int64_t count, uint64_t seed, float a, float b) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x) {
    const uint32_t h = Hash(uint64_t(i) * 0x9e3779b97f4a7c15ull + seed), g = Hash(h * 0x2545f4914f6cdd1dull + seed);
    const float bell = (float(h & 0xffff) + float(h >> 16) + float(g & 0xffff) + float(g >> 16)) / 65536.0f - 2.0f;
    if (kind == Fill::kBytes) static_cast<uint8_t*>(to)[i] = uint8_t(h);
    if (kind == Fill::kE4M3) static_cast<uint8_t*>(to)[i] = (h & 0x7f) == 0x7f ? uint8_t(h & 0xfe) : uint8_t(h);
    if (kind == Fill::kBF16) static_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16(bell * 1.732f * a);
    if (kind == Fill::kF32) static_cast<float*>(to)[i] = bell * 1.732f * a;
    if (kind == Fill::kExponent) static_cast<uint8_t*>(to)[i] = uint8_t(a + float(h % uint32_t(b - a + 1)));
  }
}
inline uint64_t NextSeed() {
  static uint64_t seed = 12345;
  return seed += 0x1234567;
}
template <class T>
T* Allocate(int64_t count) {
  void* p;
  CUDA_OK(cudaMalloc(&p, size_t(count) * sizeof(T)));
  return static_cast<T*>(p);
}
template <class T>
T* Random(Fill kind, int64_t count, float a = 1, float b = 1) {
  T* p = Allocate<T>(count);
  FillKernel<<<1024, 256>>>(kind, p, count, NextSeed(), a, b);
  CUDA_OK(cudaGetLastError());
  return p;
}
template <class T>
T* Upload(const std::vector<T>& v) {
  T* p = Allocate<T>(int64_t(v.size()));
  CUDA_OK(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  return p;
}
template <class T>
std::vector<T> Download(const T* p, int64_t count) {
  std::vector<T> v(static_cast<size_t>(count));
  CUDA_OK(cudaMemcpy(v.data(), p, v.size() * sizeof(T), cudaMemcpyDeviceToHost));
  return v;
}
template <class T>
void Poison(T* p, int64_t count) {
  CUDA_OK(cudaMemset(p, 0xff, size_t(count) * sizeof(T)));  // NaN in every float format
}

__device__ inline double E4M3Value(uint8_t c) {
  if ((c & 0x7f) == 0x7f) return nan("");
  const int e = c >> 3 & 15, m = c & 7;
  const double v = e ? ldexp(1.0 + m / 8.0, e - 7) : ldexp(m / 8.0, -6);
  return c & 0x80 ? -v : v;
}
__device__ inline double E2M1Value(uint8_t c) {
  const double values[8] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  return c & 8 ? -values[c & 7] : values[c & 7];
}
__device__ inline double E8M0Value(uint8_t b) { return b == 255 ? nan("") : ldexp(1.0, int(b) - 127); }

// ---- clocks ----

// Seconds per call of `body(i)`, i = 0 .. calls - 1 in one captured graph: the median of `repeats` replays.
template <class Body>
double TimeGraph(int calls, Body body, int repeats = 15) {
  cudaStream_t stream;
  CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  for (int i = 0; i < std::min(calls, 2); ++i) body(i, stream);
  CUDA_OK(cudaStreamSynchronize(stream));
  CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) body(i, stream);
  CUDA_OK(cudaStreamEndCapture(stream, &graph));
  CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t a, b;
  CUDA_OK(cudaEventCreate(&a));
  CUDA_OK(cudaEventCreate(&b));
  std::vector<float> ms;
  for (int r = 0; r < repeats + 2; ++r) {
    CUDA_OK(cudaEventRecord(a, stream));
    CUDA_OK(cudaGraphLaunch(exec, stream));
    CUDA_OK(cudaEventRecord(b, stream));
    CUDA_OK(cudaEventSynchronize(b));
    float t;
    CUDA_OK(cudaEventElapsedTime(&t, a, b));
    if (r >= 2) ms.push_back(t);
  }
  std::sort(ms.begin(), ms.end());
  CUDA_OK(cudaGraphExecDestroy(exec));
  CUDA_OK(cudaGraphDestroy(graph));
  CUDA_OK(cudaEventDestroy(a));
  CUDA_OK(cudaEventDestroy(b));
  CUDA_OK(cudaStreamDestroy(stream));
  return ms[ms.size() / 2] * 1e-3 / calls;
}

// ---- ceilings ----

__global__ void ReadKernel(const uint4* from, int64_t count, uint32_t* sink) {
  uint32_t x = 0;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  for (; i + 7 * step < count; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) x ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (x == 0x12345678u) *sink = x;
}
struct Ceilings {
  double copy = 0, read = 0;  // bytes per second
};
inline Ceilings MeasureCeilings(int sms) {
  const int64_t bytes = int64_t(4) << 30;
  uint8_t *a = Random<uint8_t>(Fill::kBytes, bytes), *b = Random<uint8_t>(Fill::kBytes, bytes);
  uint32_t* sink = Allocate<uint32_t>(1);
  Ceilings c;
  c.copy = 2.0 * double(bytes) / TimeGraph(2, [&](int, cudaStream_t s) {
             CUDA_OK(cudaMemcpyAsync(b, a, size_t(bytes), cudaMemcpyDeviceToDevice, s));
           });
  for (int blocks : {4, 8, 16}) {
    c.read = std::max(c.read, double(bytes) / TimeGraph(2, [&](int, cudaStream_t s) {
                                ReadKernel<<<sms * blocks, 256, 0, s>>>(reinterpret_cast<uint4*>(a), bytes / 16, sink);
                              }));
  }
  CUDA_OK(cudaFree(a));
  CUDA_OK(cudaFree(b));
  CUDA_OK(cudaFree(sink));
  return c;
}

// ---- checks ----

struct Error {
  double relative_l2 = 0, worst = 0;  // worst: the largest error over its tolerance
  int64_t wrong = 0, count = 0;
};
// Values with one rounding to bf16 or f32 against float64 sums with the sum of magnitudes, as the conformance test
// does.
inline Error Compare(const std::vector<double>& got, const std::vector<double>& want,
                     const std::vector<double>& tolerance) {
  Error e;
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(got[i] - want[i]);
    const bool same_nan = std::isnan(got[i]) && std::isnan(want[i]);
    if (!same_nan) {
      error += d * d;
      norm += want[i] * want[i];
      e.worst = d <= tolerance[i] ? std::max(e.worst, d / tolerance[i])
                : std::isnan(d)   ? INFINITY
                                  : std::max(e.worst, d / tolerance[i]);
      e.wrong += !(d <= tolerance[i]);
    }
    ++e.count;
  }
  e.relative_l2 = std::sqrt(error / std::max(norm, 1e-300));
  return e;
}
inline bool Report(const std::string& name, const Error& e) {
  std::printf("%s  %-58s rel L2 %.3g  worst/tolerance %.3g  outside %lld of %lld\n", e.wrong ? "FAIL" : "ok  ",
              name.c_str(), e.relative_l2, e.worst, static_cast<long long>(e.wrong), static_cast<long long>(e.count));
  std::fflush(stdout);
  return e.wrong == 0;
}
inline std::vector<double> ToDouble(const std::vector<__nv_bfloat16>& v) {
  std::vector<double> r;
  r.reserve(v.size());
  for (__nv_bfloat16 x : v) r.push_back(double(__bfloat162float(x)));
  return r;
}
inline double RoundBF16(double x) { return double(__bfloat162float(__float2bfloat16_rn(float(x)))); }

struct Device {
  int sms = 0;
  std::string name;
  Ceilings ceilings;
};
inline Device OpenDevice(bool ceilings) {
  cudaDeviceProp p;
  CUDA_OK(cudaGetDeviceProperties(&p, 0));
  Device d{p.multiProcessorCount, p.name, {}};
  if (ceilings) {
    d.ceilings = MeasureCeilings(d.sms);
    std::printf("device %s, %d SMs, copy %.2f TB/s, read %.2f TB/s\n", p.name, d.sms, d.ceilings.copy * 1e-12,
                d.ceilings.read * 1e-12);
  }
  return d;
}

}  // namespace bench
