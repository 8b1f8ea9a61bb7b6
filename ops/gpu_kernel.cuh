// What the GPU kernels of all ops share: element conversions, reductions, launching.
//
// Written for 32 lanes that work together ("warp" below), which is a warp of NVIDIA chips and half of a wavefront on
// AMD's with 64: lane numbers and shuffles never leave the 32.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "base/tensor.h"
#include "device/gpu/gpu_runtime.h"
#include "ops/op.h"

namespace vexil::gpu {

inline constexpr int kWarp = 32;

// ---- elements -------------------------------------------------------------------------------------------------

__device__ inline float ToF32(float v) { return v; }
__device__ inline float ToF32(BF16 v) { return __uint_as_float(uint32_t(v.bits) << 16); }
__device__ inline float ToF32(F16 v) {
#if defined(__CUDA_ARCH__)
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
  return f;
#else
  return float(__builtin_bit_cast(_Float16, v.bits));
#endif
}

// One rounding, to nearest even; a NaN stays one.
template <class T>
__device__ inline T FromF32(float f) {
  if constexpr (std::is_same_v<T, BF16>) {
    const uint32_t u = __float_as_uint(f);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    BF16 r;
    r.bits = uint16_t(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    return r;
  } else {
    return f;
  }
}
template <class T>
__device__ inline float Rounded(float f) {
  return ToF32(FromF32<T>(f));
}

// 4 neighbouring elements in one load; p is aligned to all of them.
struct Four {
  float v[4];
};
__device__ inline Four Load4(const float* p) {
  const float4 a = *reinterpret_cast<const float4*>(p);
  return {{a.x, a.y, a.z, a.w}};
}
__device__ inline Four Load4(const BF16* p) {
  const uint2 a = *reinterpret_cast<const uint2*>(p);
  return {{__uint_as_float(a.x << 16), __uint_as_float(a.x & 0xffff0000u), __uint_as_float(a.y << 16),
           __uint_as_float(a.y & 0xffff0000u)}};
}
__device__ inline void Store4(float* p, const Four& f) {
  *reinterpret_cast<float4*>(p) = float4{f.v[0], f.v[1], f.v[2], f.v[3]};
}
__device__ inline void Store4(BF16* p, const Four& f) {
  uint32_t bits[4];
  for (int i = 0; i < 4; ++i) bits[i] = FromF32<BF16>(f.v[i]).bits;
  *reinterpret_cast<uint2*>(p) = uint2{bits[0] | bits[1] << 16, bits[2] | bits[3] << 16};
}

// E4M3 by its bits: as a binary32 with exponent bias 7 it is too small by 2^120. 0x7f is NaN.
__device__ inline float E4M3ToF32(uint32_t b) {
  if ((b & 0x7fu) == 0x7fu) return __uint_as_float(0x7fc00000u);
  return __uint_as_float((b & 0x80u) << 24 | (b & 0x7fu) << 20) * 0x1p120f;
}
// E2M1 likewise, by 2^126.
__device__ inline float E2M1ToF32(uint32_t nibble) {
  return __uint_as_float((nibble & 8u) << 28 | (nibble & 7u) << 22) * 0x1p126f;
}
__device__ inline float E8M0ToF32(uint8_t b) {
  if (b == 255) return __uint_as_float(0x7fc00000u);
  return b == 0 ? 0x1p-127f : __uint_as_float(uint32_t(b) << 23);
}

// The E4M3 code nearest to f, which is at most 448 in magnitude or NaN.
__device__ inline uint8_t F32ToE4M3(float f) {
  const uint32_t u = __float_as_uint(f), a = u & 0x7fffffffu;
  const uint8_t sign = uint8_t((u >> 24) & 0x80u);
  if (a > 0x7f800000u) return uint8_t(sign | 0x7fu);
  if (a < 0x3c800000u) return uint8_t(sign | uint8_t(rintf(__uint_as_float(a) * 0x1p9f)));  // below 2^-6
  const uint32_t code = (a + 0x7ffffu + ((a >> 20) & 1u) - (120u << 23)) >> 20;
  return uint8_t(sign | (code > 0x7eu ? 0x7eu : code));
}
// f, at most 6 in magnitude or NaN, rounded to E2M1: neighbours 0 0.5 1 1.5 2 3 4 6, a tie to the even code.
__device__ inline float RoundToE2M1(float f) {
  const float a = fabsf(f);
  if (!(a <= 6)) return f;
  const float r = a <= 2.0f ? rintf(a * 2) * 0.5f : a <= 4 ? rintf(a) : rintf(a * 0.5f) * 2;
  return copysignf(r, f);
}

// ---- within 32 lanes ------------------------------------------------------------------------------------------

__device__ inline int Lane() { return int(threadIdx.x) & (kWarp - 1); }
__device__ inline int Warp() { return int(threadIdx.x) / kWarp; }

#if defined(__HIP__)
template <class T>
__device__ inline T ShuffleXor(T v, int mask) {
  return __shfl_xor(v, mask, kWarp);
}
// The value of the lane `delta` below; a lane without one keeps its own.
template <class T>
__device__ inline T ShuffleUp(T v, int delta) {
  return __shfl_up(v, delta, kWarp);
}
__device__ inline uint32_t Ballot(bool p) { return uint32_t(__ballot(p) >> (threadIdx.x & 32u)); }
__device__ inline void SyncWarp() { __syncwarp(); }
#else
template <class T>
__device__ inline T ShuffleXor(T v, int mask) {
  return __shfl_xor_sync(0xffffffffu, v, mask);
}
template <class T>
__device__ inline T ShuffleUp(T v, int delta) {
  return __shfl_up_sync(0xffffffffu, v, delta);
}
__device__ inline uint32_t Ballot(bool p) { return __ballot_sync(0xffffffffu, p); }
__device__ inline void SyncWarp() { __syncwarp(); }
#endif

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Smaller {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// All lanes get the result. Pairs at distance 16, 8, ..., 1.
template <class T, class F = Plus>
__device__ inline T WarpReduce(T v, F f = {}) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) v = f(v, ShuffleXor(v, mask));
  return v;
}

// The sum of the lanes up to and including one's own.
template <class T>
__device__ inline T WarpScan(T v) {
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const T below = ShuffleUp(v, delta);
    if (Lane() >= delta) v += below;
  }
  return v;
}

// All threads of a block of whole warps get the result: warps first, then their results in the same way. `shared` holds
// 32 values; the block may reuse it after the next barrier.
template <class T, class F = Plus>
__device__ inline T BlockReduce(T v, T* shared, T neutral, F f = {}) {
  v = WarpReduce(v, f);
  __syncthreads();
  if (Lane() == 0) shared[Warp()] = v;
  __syncthreads();
  const int warps = int(blockDim.x) / kWarp;
  return WarpReduce(Lane() < warps ? shared[Lane()] : neutral, f);
}

// ---- searching ------------------------------------------------------------------------------------------------

// The s with begin[s] <= i < begin[s + 1], for ascending begin[0 .. count] with begin[0] <= i < begin[count].
__device__ inline int FindSegment(const int32_t* begin, int count, int i) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (begin[middle] <= i) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Ranking by score as ranking of integers, smaller first: descending score, ties to the lower index, NaN like
// -infinity (ops/top_k/rank_key.h).
__device__ inline uint32_t DescendingBits(float score) {
  const float v = score != score ? __uint_as_float(0xff800000u) : score + 0.0f;  // -0 ties with 0
  const uint32_t bits = __float_as_uint(v);
  return ~((bits & 0x80000000u) ? ~bits : bits | 0x80000000u);
}
__device__ inline uint64_t RankKey(float score, uint32_t index) {
  return uint64_t(DescendingBits(score)) << 32 | index;
}

// ---- launching ------------------------------------------------------------------------------------------------

// First in every kernel. On chips that can, its successor in the stream is set up while it runs; it waits here until
// the results of its predecessor are there. Every thread passes, so that what a kernel may read is complete however far
// back it was written.
__device__ inline void BeginKernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

inline Stream StreamOf(const Context& ctx) { return Stream(ctx.stream); }

// What went wrong with a launch just made. A kernel that fails later shows when the stream is waited for.
inline Status Launched(std::string_view op) {
  const Error e = VX_GPU_NAME(GetLastError)();
  if (e == kSuccess) return {};
  return Unavailable(std::string(op) + ": cannot start the kernel: " + VX_GPU_NAME(GetErrorString)(e));
}

// Starts a kernel that begins with BeginKernel(), without waiting for the one before it to end.
template <class... Parameters, class... Arguments>
void Launch(const Context& ctx, void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared,
            Arguments&&... arguments) {
#if defined(__HIP__) || defined(VX_WITH_HIP)
  kernel<<<grid, threads, shared, StreamOf(ctx)>>>(Parameters(arguments)...);
#else
  cudaLaunchAttribute early;
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(unsigned(threads));
  config.dynamicSmemBytes = shared;
  config.stream = StreamOf(ctx);
  config.attrs = &early;
  config.numAttrs = 1;
  (void)cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);  // Launched() reports a failure
#endif
}

// Blocks for `count` items, `per_block` each.
constexpr unsigned Blocks(int64_t count, int64_t per_block) { return unsigned((count + per_block - 1) / per_block); }

// Lets a kernel use more shared memory than the 48 KiB that every chip gives.
template <class K>
inline void AllowShared(K* kernel, size_t bytes) {
  if (bytes > 48 * 1024) {
    (void)VX_GPU_NAME(FuncSetAttribute)(reinterpret_cast<const void*>(kernel),
                                        VX_GPU_NAME(FuncAttributeMaxDynamicSharedMemorySize), int(bytes));
  }
}

// Calls f with a value of the element type F32 or BF16, as WithFloatType of ops/elements.h does on the host.
template <class F>
void WithElement(DType t, F&& f) {
  t == DType::kF32 ? f(float{}) : f(BF16{});
}
inline bool IsElement(DType t) { return t == DType::kF32 || t == DType::kBF16; }

// A view as kernels take it: a pointer and the strides of its leading dimensions in elements.
template <class T>
struct Rows {
  T* data;
  int64_t stride, stride1;
  __device__ T* at(int64_t i) const { return data + i * stride; }
  __device__ T* at(int64_t i, int64_t j) const { return data + i * stride + j * stride1; }
};
template <class T>
Rows<const T> RowsOf(const TensorView& v) {
  return {static_cast<const T*>(v.raw()), v.rank() > 1 ? v.stride(0) : 1, v.rank() > 2 ? v.stride(1) : 1};
}
template <class T>
Rows<T> MutRowsOf(const MutTensorView& v) {
  return {static_cast<T*>(v.mut_raw()), v.rank() > 1 ? v.stride(0) : 1, v.rank() > 2 ? v.stride(1) : 1};
}
// Whether every row of the view can be read by Load4 from any multiple of 4 on.
inline bool FitsLoad4(const TensorView& v) {
  bool fits = v.dim(-1) % 4 == 0 && reinterpret_cast<uintptr_t>(v.raw()) % uint64_t(4 * BytesOf(v.dtype())) == 0;
  for (int i = 0; i + 1 < v.rank(); ++i) fits = fits && v.stride(i) % 4 == 0;
  return fits;
}
template <class T>
const T* DataOf(const TensorView& v) {
  return static_cast<const T*>(v.raw());
}
template <class T>
T* MutDataOf(const MutTensorView& v) {
  return static_cast<T*>(v.mut_raw());
}

}  // namespace vexil::gpu
