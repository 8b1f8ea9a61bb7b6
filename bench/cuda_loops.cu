// Reading: every thread streams 16 bytes at a time, 8 in flight. Multiplying: warpgroups repeat wgmma on tiles of
// random values in shared memory; values matter, since a chip that multiplies zeros draws less power and clocks higher.
#include <string>

#include "bench/gpu_loops.h"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/launch.h"

namespace vexil::gpu {
namespace {

constexpr int kReadThreads = 256, kInFlight = 8;
constexpr int kMatrixThreads = 256;   // two warpgroups, one waits while the other multiplies
constexpr int kTileBytes = 48 << 10;  // A: 8 KB of each warpgroup; B: 32 KB
constexpr int kSteps = 4;             // instructions along 128 bytes of K
constexpr int kRounds = 8;            // over them before a wait
constexpr int kIterations = 512;

__global__ void ReadLoop(const uint4* from, int64_t count, uint32_t* sink) {
  uint32_t x = 0;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i + (kInFlight - 1) * step < count;
       i += kInFlight * step) {
    uint4 v[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) v[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) x ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (x == 0x12345678u) *sink = x;  // keeps the loads
}

// Bytes that are small BF16 and E4M3 values: exponents of neither format reach infinity or NaN.
__device__ void FillTiles(uint8_t* tiles) {
  for (int i = int(threadIdx.x); i < kTileBytes; i += kMatrixThreads) {
    const uint32_t mixed = (uint32_t(i) * 2654435761u) >> 16;
    tiles[i] = uint8_t(mixed & 0xbf);
  }
}

template <bool kFp8>
__global__ void __launch_bounds__(kMatrixThreads, 1) MatrixLoop(int iterations, float* sink) {
  extern __shared__ uint8_t raw[];
  uint8_t* tiles = raw + (1024 - (cuda::SharedAddress(raw) & 1023)) % 1024;
  FillTiles(tiles);
  cuda::FenceAsyncProxy();
  __syncthreads();
  const int warpgroup = int(threadIdx.x) / 128;
  const uint64_t a = cuda::SwizzledTile(tiles + warpgroup * (8 << 10));
  float d[kFp8 ? 64 : 128] = {};
  if constexpr (kFp8) {
    const uint64_t b = cuda::SwizzledTile(tiles + (16 << 10));
    for (int i = 0; i < iterations; ++i) {
      cuda::WarpgroupFence();
#pragma unroll
      for (int s = 0; s < kRounds * kSteps; ++s) {
        cuda::WgmmaE4M3N128(d, a + 2 * (s % kSteps), b + 2 * (s % kSteps), true);
      }
      cuda::WarpgroupCommit();
      cuda::WarpgroupWait<0>();
    }
  } else {
    const uint64_t b = cuda::SwizzledColumns(tiles + (16 << 10), 8 << 10);
    for (int i = 0; i < iterations; ++i) {
      cuda::WarpgroupFence();
#pragma unroll
      for (int s = 0; s < kRounds * kSteps; ++s) {
        cuda::WgmmaBF16N256(d, a + 2 * (s % kSteps), b + 128 * (s % kSteps), true);
      }
      cuda::WarpgroupCommit();
      cuda::WarpgroupWait<0>();
    }
  }
  float sum = 0;
  for (float v : d) sum += v;
  if (sum == 1.25f) *sink = sum;
}

Status Issued(const char* what, cudaError_t e) {
  return e == cudaSuccess ? Status() : Unavailable(std::string(what) + ": " + cudaGetErrorString(e));
}

}  // namespace

Status StartReadLoop(Device& device, void* memory, size_t bytes) {
  constexpr unsigned kBlocksPerMultiprocessor = 8;
  ReadLoop<<<unsigned(device.caps().multiprocessors) * kBlocksPerMultiprocessor, kReadThreads, 0,
             cudaStream_t(device.stream())>>>(static_cast<const uint4*>(memory), int64_t(bytes / sizeof(uint4)),
                                              static_cast<uint32_t*>(memory));
  return Issued("read loop", cudaGetLastError());
}

bool HasMatrixLoops(const DeviceCaps& caps) { return caps.major == 9; }

double FlopsOfMatrixLoop(const DeviceCaps& caps, bool fp8) {
  constexpr double kFp8Flops = 2.0 * 64 * 128 * 32, kBf16Flops = 2.0 * 64 * 256 * 16;  // of an instruction
  const double instructions = double(kMatrixThreads / 128) * kIterations * kRounds * kSteps;
  return caps.multiprocessors * instructions * (fp8 ? kFp8Flops : kBf16Flops);
}

Status StartMatrixLoop(Device& device, bool fp8, void* sink) {
  const cuda::Launch launch{.stream = cudaStream_t(device.stream()), .sms = device.caps().multiprocessors};
  return Issued("matrix loop",
                cuda::Start(launch, fp8 ? MatrixLoop<true> : MatrixLoop<false>, dim3(unsigned(launch.sms)),
                            kMatrixThreads, size_t(kTileBytes + 1024), kIterations, static_cast<float*>(sink)));
}

}  // namespace vexil::gpu
