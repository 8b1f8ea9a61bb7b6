// The little of HIP that the kernels use, so that a plain clang without ROCm can compile their device code for AMD
// chips (cmake/hip_check.cmake). It is for that check only: a HIP build takes <hip/hip_runtime.h>.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define __host__ __attribute__((host))
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  constexpr __host__ __device__ dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Only the host side calls these; nothing links the check.
enum hipError_t { hipSuccess = 0 };
using hipStream_t = struct ihipStream_t*;
enum hipFuncAttribute { hipFuncAttributeMaxDynamicSharedMemorySize = 8 };
hipError_t hipGetLastError();
const char* hipGetErrorString(hipError_t);
hipError_t hipFuncSetAttribute(const void*, hipFuncAttribute, int);
extern "C" hipError_t __hipPushCallConfiguration(dim3 grid, dim3 block, size_t shared, hipStream_t stream);
extern "C" hipError_t __hipPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, hipStream_t* stream);
extern "C" hipError_t hipLaunchKernel(const void*, dim3, dim3, void**, size_t, hipStream_t);

struct HipThreadIdx {
  struct X {
    __device__ operator unsigned() const { return __builtin_amdgcn_workitem_id_x(); }
  } x;
};
struct HipBlockIdx {
  struct X {
    __device__ operator unsigned() const { return __builtin_amdgcn_workgroup_id_x(); }
  } x;
  struct Y {
    __device__ operator unsigned() const { return __builtin_amdgcn_workgroup_id_y(); }
  } y;
  struct Z {
    __device__ operator unsigned() const { return __builtin_amdgcn_workgroup_id_z(); }
  } z;
};
struct HipBlockDim {
  // hsa_kernel_dispatch_packet_t::workgroup_size_x
  struct X {
    __device__ operator unsigned() const {
      return ((const __attribute__((address_space(4))) uint16_t*)__builtin_amdgcn_dispatch_ptr())[2];
    }
  } x;
};
struct HipGridDim {
  // hsa_kernel_dispatch_packet_t::grid_size_z, in work items, over workgroup_size_z
  struct Z {
    __device__ operator unsigned() const {
      const auto packet = __builtin_amdgcn_dispatch_ptr();
      return ((const __attribute__((address_space(4))) uint32_t*)packet)[5] /
             ((const __attribute__((address_space(4))) uint16_t*)packet)[4];
    }
  } z;
};
static __device__ constexpr HipThreadIdx threadIdx{};
static __device__ constexpr HipBlockIdx blockIdx{};
static __device__ constexpr HipBlockDim blockDim{};
static __device__ constexpr HipGridDim gridDim{};

// ---- synchronisation and exchange --------------------------------------------------------------------------------

static __device__ inline void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
// Lanes of a wavefront run together; only the compiler has to be told.
static __device__ inline void __syncwarp() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}

static __device__ inline int HipLane() { return __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u)); }
// The value of another lane, word by word.
template <class T>
static __device__ inline T HipFromLane(T v, int lane) {
  static_assert(sizeof(T) % 4 == 0);
  int words[sizeof(T) / 4];
  __builtin_memcpy(words, &v, sizeof(T));
  for (int& w : words) w = __builtin_amdgcn_ds_bpermute(4 * lane, w);
  __builtin_memcpy(&v, words, sizeof(T));
  return v;
}
template <class T>
static __device__ inline T __shfl_xor(T v, int mask, int) {
  return HipFromLane(v, HipLane() ^ mask);
}
template <class T>
static __device__ inline T __shfl_up(T v, int delta, int width) {
  const int lane = HipLane();
  return HipFromLane(v, lane % width >= delta ? lane - delta : lane);
}
static __device__ inline uint64_t __ballot(bool p) {
  return __builtin_amdgcn_uicmp(unsigned(p), 0u, 33);
}  // 33: not equal
static __device__ inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(unsigned(v)); }
static __device__ inline int __popc(unsigned v) { return __builtin_popcount(v); }

template <class T>
static __device__ inline T atomicAdd(T* at, T v) {
  return __atomic_fetch_add(at, v, __ATOMIC_RELAXED);
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------

static __device__ inline float __uint_as_float(unsigned v) { return __builtin_bit_cast(float, v); }
static __device__ inline unsigned __float_as_uint(float v) { return __builtin_bit_cast(unsigned, v); }
static __device__ inline float __fmul_rn(float a, float b) { return a * b; }

// Functions of ROCm's device library, which a HIP build links.
extern "C" {
__device__ float __ocml_exp_f32(float);
__device__ float __ocml_log1p_f32(float);
__device__ double __ocml_exp_f64(double);
__device__ double __ocml_sincos_f64(double, __attribute__((address_space(5))) double*);
}
#define VX_HIP_MATH(type, name, body) \
  static __device__ inline type name { return body; }
VX_HIP_MATH(float, expf(float x), __ocml_exp_f32(x))
VX_HIP_MATH(float, log1pf(float x), __ocml_log1p_f32(x))
VX_HIP_MATH(double, exp(double x), __ocml_exp_f64(x))
VX_HIP_MATH(float, sqrtf(float x), __builtin_sqrtf(x))
VX_HIP_MATH(float, fabsf(float x), __builtin_fabsf(x))
VX_HIP_MATH(float, fmaxf(float a, float b), __builtin_fmaxf(a, b))
VX_HIP_MATH(float, rintf(float x), __builtin_rintf(x))
VX_HIP_MATH(float, copysignf(float a, float b), __builtin_copysignf(a, b))
VX_HIP_MATH(double, ceil(double x), __builtin_ceil(x))
#undef VX_HIP_MATH
static __device__ inline void sincos(double x, double* sine, double* cosine) {
  double c;
  *sine = __ocml_sincos_f64(x, (__attribute__((address_space(5))) double*)&c);
  *cosine = c;
}
