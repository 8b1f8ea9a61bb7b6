// Floor: 2 n N K operations at the BF16 rate of the tensor cores (745 TFLOP/s were measured on an H100 with the
// vendor's library), or for few columns the bytes of x.
//
// Work: a block stays on its multiprocessor and takes tiles of 128 rows of x by 256, 128 or 64 of the weight, whose
// operands travel through a ring of stages, 64 values of K each. Two warpgroups multiply, 64 rows each. Rows of x and
// BF16 weights are copied by the copy engine, at the request of a third warpgroup, which also reads E4M3 weights and
// writes them to the stage as BF16, scale included: exact where BF16 has the value.
//
// Types: BF16 products, added by the tensor core in f32 in ascending steps of 16 values of K; one rounding to y.
#include <algorithm>
#include <array>
#include <initializer_list>
#include <type_traits>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/tensor_map.h"
#include "ops/cuda/wgmma_bf16.cuh"
#include "ops/linear/cuda_bf16.h"

namespace vexil::cuda {
namespace {

constexpr int kTileM = 128, kTileK = 64, kRowBytes = kTileK * 2;
constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kConsumers = 2 * kGroup;
constexpr int kABytes = kTileM * kRowBytes;
constexpr int kRowTilesTogether = 16;

constexpr int kThreads = kConsumers + kGroup;
// Registers of a thread that converts and of one that multiplies beside it. A block begins with 168 for each thread and
// cannot share out more: it would wait for ever.
constexpr int kConvertRegisters = 120, kBesideConversion = 192;
static_assert(kGroup * kConvertRegisters + kConsumers * kBesideConversion <= 168 * kThreads);

template <int kN>
struct Ring {
  static constexpr int kStages = kN == 256 ? 4 : kN == 128 ? 6 : 8;
  static constexpr int kStageBytes = kABytes + kN * kRowBytes;
  static constexpr int kBarriers = kStages * kStageBytes;
  static constexpr int kTotal = kBarriers + 2 * kStages * 8;
};

template <Bf16Weight kW>
struct PartWeights;
template <>
struct PartWeights<Bf16Weight::kBF16> {
  CUtensorMap map[kBf16Parts];
};
template <>
struct PartWeights<Bf16Weight::kE4M3> {
  Bf16Matrix matrix[kBf16Parts];
};

// ---- tiles ----

__host__ __device__ inline int Tiles(int count, int size) { return (count + size - 1) / size; }

struct Tile {
  int part, row, column;
};

// Tile `item`. Blocks that run together share a few row tiles and a few column tiles, so that both stay in the
// second-level cache.
__device__ inline Tile TileAt(const Bf16Call& c, int item, int width) {
  const int row_tiles = Tiles(c.n, kTileM), column_tiles = Tiles(c.n_out, width);
  const int part = item / (row_tiles * column_tiles), rest = item - part * row_tiles * column_tiles;
  const int first = rest / (kRowTilesTogether * column_tiles) * kRowTilesTogether;
  const int rows = min(kRowTilesTogether, row_tiles - first), within = rest - first * column_tiles;
  return {part, (first + within % rows) * kTileM, within / rows * width};
}

// ---- filling ----

template <int kN>
__device__ void FillByCopies(const Bf16Call& c, const CUtensorMap& x, const PartWeights<Bf16Weight::kBF16>& w,
                             int items, uint8_t* shared, uint64_t* full, uint64_t* empty) {
  using R = Ring<kN>;
  if (threadIdx.x != kConsumers) return;
  RingPosition<R::kStages> ring;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile = TileAt(c, item, kN);
    for (int k = 0; k < c.k; k += kTileK) {
      BarrierWait(empty + ring.stage, ring.parity ^ 1);
      uint8_t* const stage = shared + ring.stage * R::kStageBytes;
      uint64_t* const bar = full + ring.stage;
      BarrierArriveExpect(bar, R::kStageBytes);
      TensorCopy2D(stage, &x, (tile.part * c.k + k) * 2, tile.row, bar);
      TensorCopy2D(stage + kABytes, &w.map[tile.part], k * 2, tile.column, bar);
      ring.Next();
    }
  }
}

// E4M3 codes are moved to BF16 by their bits, which gives 2^-120 times their value, and multiplied by 2^120 times their
// scale. Above this scale (2^7) the factor is too large for BF16, and a second one follows.
constexpr uint32_t kLargestScale = 254 - 120;

// 2^(e - 127), in both halves.
__device__ inline uint32_t PowerOfTwoBF16x2(uint32_t e) { return (e << 7) * 0x10001u; }
__device__ inline uint32_t MultiplyBF16x2(uint32_t a, uint32_t b) {
  uint32_t r;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

// Four codes in ascending order; NaN becomes a number.
__device__ inline uint2 MoveBits(uint32_t codes) {
  const uint32_t high = (codes & 0x80808080u) | (codes >> 4 & 0x07070707u), low = codes << 4 & 0xf0f0f0f0u;
  return make_uint2(__byte_perm(low, high, 0x5140), __byte_perm(low, high, 0x7362));
}

template <bool kLarge>
__device__ inline uint4 Scaled(uint32_t low, uint32_t high, uint32_t scale) {
  const uint32_t first = kLarge ? min(scale, kLargestScale) : scale;
  const uint32_t factor = scale == 255 ? 0x7fc07fc0u : PowerOfTwoBF16x2(first + 120);
  const uint2 a = MoveBits(low), b = MoveBits(high);
  uint32_t v[4] = {a.x, a.y, b.x, b.y};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[i] = MultiplyBF16x2(v[i], factor);
    if (kLarge) v[i] = MultiplyBF16x2(v[i], PowerOfTwoBF16x2(scale - first + 127));
  }
  return make_uint4(v[0], v[1], v[2], v[3]);
}

// 16 codes of a row of the weight, and their scale.
struct Codes {
  uint4 code;
  uint8_t scale;
};
__device__ inline Codes Fetch(const Bf16Call& c, const Bf16Matrix& w, int row, int k) {
  const int r = min(row, c.n_out - 1);
  return {__ldg(reinterpret_cast<const uint4*>(static_cast<const uint8_t*>(w.data) + int64_t(r) * c.k + k)),
          __ldg(w.scale + (c.row_scales ? r : r / 128) * ((c.k + 127) / 128) + k / 128)};
}

// Thread t converts piece t % 4 of rows t / 4 + 32 i of the tile of the weight. Each piece of the next stage is asked
// for when its register is free.
template <int kN>
__device__ void FillByConversion(const Bf16Call& c, const CUtensorMap& x, const PartWeights<Bf16Weight::kE4M3>& w,
                                 int items, uint8_t* shared, uint64_t* full, uint64_t* empty) {
  using R = Ring<kN>;
  const int t = int(threadIdx.x) - kConsumers, swizzle = t / 4 % 8;
  uint8_t* const low = shared + kABytes + t / 4 * kRowBytes + ((t % 4 * 2) ^ swizzle) * 16;
  uint8_t* const high = shared + kABytes + t / 4 * kRowBytes + ((t % 4 * 2 + 1) ^ swizzle) * 16;
  RingPosition<R::kStages> ring;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile = TileAt(c, item, kN);
    const Bf16Matrix& matrix = w.matrix[tile.part];
    const int row = tile.column + t / 4, piece = t % 4 * 16;
    Codes codes[kN / 32];
#pragma unroll
    for (int i = 0; i < kN / 32; ++i) codes[i] = Fetch(c, matrix, row + i * 32, piece);
    for (int k = 0; k < c.k; k += kTileK) {
      BarrierWait(empty + ring.stage, ring.parity ^ 1);
      uint64_t* const bar = full + ring.stage;
      const int stage = ring.stage * R::kStageBytes, next = min(k + kTileK, c.k - kTileK) + piece;
      if (t == 0) {
        BarrierArriveExpect(bar, kABytes);
        TensorCopy2D(shared + stage, &x, (tile.part * c.k + k) * 2, tile.row, bar);
      }
      uint32_t largest = 0;
#pragma unroll
      for (int i = 0; i < kN / 32; ++i) largest = max(largest, uint32_t(codes[i].scale));
      const auto convert = [&]<bool kLarge>(std::bool_constant<kLarge>) {
#pragma unroll
        for (int i = 0; i < kN / 32; ++i) {
          const Codes mine = codes[i];
          codes[i] = Fetch(c, matrix, row + i * 32, next);
          const auto at = [&](uint8_t* to) { return reinterpret_cast<uint4*>(to + stage + i * 32 * kRowBytes); };
          *at(low) = Scaled<kLarge>(mine.code.x, mine.code.y, mine.scale);
          *at(high) = Scaled<kLarge>(mine.code.z, mine.code.w, mine.scale);
        }
      };
      if (__any_sync(0xffffffffu, largest > kLargestScale)) {
        convert(std::true_type());
      } else {
        convert(std::false_type());
      }
      FenceAsyncProxy();
      __syncwarp();
      if (t % 32 == 0) BarrierArrive(bar);
      ring.Next();
    }
  }
}

// The weights of all parts as BF16, one after the other: a thread per 16 codes.
constexpr int kExpandThreads = 256;
__global__ void __launch_bounds__(kExpandThreads)
    ExpandKernel(const __grid_constant__ Bf16Call c, const __grid_constant__ PartWeights<Bf16Weight::kE4M3> w,
                 uint4* out) {
  LetSuccessorStart();
  WaitForPredecessor();
  const int64_t piece = int64_t(blockIdx.x) * kExpandThreads + threadIdx.x;
  const int pieces_per_row = c.k / 16;
  if (piece >= int64_t(c.n_out) * pieces_per_row) return;
  const int row = int(piece / pieces_per_row), k = int(piece - int64_t(row) * pieces_per_row) * 16;
  const Codes codes = Fetch(c, w.matrix[blockIdx.y], row, k);
  uint4* const to = out + (int64_t(blockIdx.y) * c.n_out * pieces_per_row + piece) * 2;
  to[0] = Scaled<true>(codes.code.x, codes.code.y, codes.scale);
  to[1] = Scaled<true>(codes.code.z, codes.code.w, codes.scale);
}

// ---- multiplying ----

template <int kN>
__device__ inline void MultiplyTile(float (&acc)[kN / 2], int blocks, const uint8_t* shared, uint64_t* full,
                                    uint64_t* empty, RingPosition<Ring<kN>::kStages>& ring) {
  using R = Ring<kN>;
  const int group = int(threadIdx.x) / kGroup;
  uint64_t* taken = nullptr;  // the barrier of the stage whose products may still be under way
  for (int block = 0; block < blocks; ++block) {
    BarrierWait(full + ring.stage, ring.parity);
    const uint8_t* const stage = shared + ring.stage * R::kStageBytes;
    const uint64_t a = SwizzledTile(stage + group * 64 * kRowBytes), b = SwizzledTile(stage + kABytes);
    WarpgroupFence();
#pragma unroll
    for (int k = 0; k < kTileK / 16; ++k) WgmmaBF16(acc, a + 2 * k, b + 2 * k, block + k > 0);
    WarpgroupCommit();
    WarpgroupWait<1>();
    if (taken && threadIdx.x % 32 == 0) BarrierArrive(taken);
    taken = empty + ring.stage;
    ring.Next();
  }
  WarpgroupWait<0>();
  if (threadIdx.x % 32 == 0) BarrierArrive(taken);
}

// v[i] of lane t of four becomes v[t] of lane i.
__device__ inline void TransposeInFour(uint32_t (&v)[4]) {
  const int lane = int(threadIdx.x);
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool high = lane & step;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const uint32_t other = __shfl_xor_sync(0xffffffffu, high ? v[i] : v[i + step], step);
      (high ? v[i] : v[i + step]) = other;
    }
  }
}

// Writes this thread's results of 64 rows by kN columns: `rows` and `columns` are what y has of them.
template <int kN>
__device__ inline void WriteF32(const float (&acc)[kN / 2], float* y, int64_t stride, int rows, int columns) {
  const int r = int(threadIdx.x) % kGroup / 32 * 16 + int(threadIdx.x) % 32 / 4, t = int(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
    if (j * 8 >= columns) break;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (r + 8 * h >= rows) continue;
      *reinterpret_cast<float2*>(y + (r + 8 * h) * stride + j * 8 + 2 * t) =
          make_float2(acc[4 * j + 2 * h], acc[4 * j + 2 * h + 1]);
    }
  }
}
template <int kN>
__device__ inline void WriteBF16(const float (&acc)[kN / 2], __nv_bfloat16* y, int64_t stride, int rows, int columns) {
  const int r = int(threadIdx.x) % kGroup / 32 * 16 + int(threadIdx.x) % 32 / 4, t = int(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < kN / 8; j += 4) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      uint32_t v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = PackBF16(acc[4 * (j + i) + 2 * h], acc[4 * (j + i) + 2 * h + 1]);
      TransposeInFour(v);
      if (r + 8 * h >= rows || (j + t) * 8 >= columns) continue;
      *reinterpret_cast<uint4*>(y + (r + 8 * h) * stride + (j + t) * 8) = make_uint4(v[0], v[1], v[2], v[3]);
    }
  }
}

template <Bf16Weight kW, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    Bf16Kernel(const __grid_constant__ Bf16Call c, const __grid_constant__ CUtensorMap x,
               const __grid_constant__ PartWeights<kW> w) {
  using R = Ring<kN>;
  constexpr bool kCopies = kW == Bf16Weight::kBF16;
  extern __shared__ __align__(1024) uint8_t shared[];
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + R::kBarriers);
  uint64_t* const empty = full + R::kStages;
  if (threadIdx.x == 0) {
    for (int s = 0; s < R::kStages; ++s) {
      BarrierInit(full + s, kCopies ? 1 : 1 + kGroup / 32);
      BarrierInit(empty + s, kConsumers / 32);
    }
    FenceBarrierInit();
  }
  LetSuccessorStart();
  WaitForPredecessor();
  __syncthreads();
  const int items = c.parts * Tiles(c.n, kTileM) * Tiles(c.n_out, kN);
  const int group = int(threadIdx.x) / kGroup;
  if (group >= 2) {
    if constexpr (kCopies) {
      GiveRegisters<40>();
      FillByCopies<kN>(c, x, w, items, shared, full, empty);
    } else {
      GiveRegisters<kConvertRegisters>();
      FillByConversion<kN>(c, x, w, items, shared, full, empty);
    }
    return;
  }
  if constexpr (kCopies) {
    TakeRegisters<232>();
  } else {
    TakeRegisters<kBesideConversion>();
  }
  RingPosition<R::kStages> ring;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile = TileAt(c, item, kN);
    float acc[kN / 2];
    MultiplyTile<kN>(acc, c.k / kTileK, shared, full, empty, ring);
    const int row = tile.row + group * 64, rows = c.n - row, columns = c.n_out - tile.column;
    const int64_t at = row * c.y_stride + int64_t(tile.part) * c.n_out + tile.column;
    if (c.y_f32) {
      WriteF32<kN>(acc, static_cast<float*>(c.y) + at, c.y_stride, rows, columns);
    } else {
      WriteBF16<kN>(acc, static_cast<__nv_bfloat16*>(c.y) + at, c.y_stride, rows, columns);
    }
  }
}

// ---- launching ----

template <Bf16Weight kW, int kN>
cudaError_t StartBf16(const Launch& launch, const Bf16Call& c, const Bf16Matrix* w) {
  CUtensorMap x;
  if (cudaError_t e = MakeTileMap(&x, c.x, c.n, int64_t(c.parts) * c.k * 2, c.x_stride, kTileM); e != cudaSuccess)
    return e;
  PartWeights<kW> weights = {};
  for (int p = 0; p < c.parts; ++p) {
    if constexpr (kW == Bf16Weight::kBF16) {
      const cudaError_t e = MakeTileMap(&weights.map[p], w[p].data, c.n_out, c.k * 2, c.k * 2, kN);
      if (e != cudaSuccess) return e;
    } else {
      weights.matrix[p] = w[p];
    }
  }
  const int items = c.parts * Tiles(c.n, kTileM) * Tiles(c.n_out, kN);
  return Start(launch, Bf16Kernel<kW, kN>, dim3(unsigned(std::min(items, launch.sms))), kThreads, Ring<kN>::kTotal, c,
               x, weights);
}

// The width of tiles that takes the least time: rounds of tiles, each as long as its products and a little more.
int TileWidth(const Launch& launch, const Bf16Call& c) {
  constexpr int kEveryTile = 40;  // what a tile costs beside products, as columns
  int best = 0, least = 0;
  for (int width : {256, 128, 64}) {
    const int rounds = Tiles(c.parts * Tiles(c.n, kTileM) * Tiles(c.n_out, width), launch.sms);
    const int cost = rounds * (width + kEveryTile);
    if (best == 0 || cost < least) best = width, least = cost;
  }
  return best;
}

template <Bf16Weight kW>
cudaError_t StartBf16(const Launch& launch, const Bf16Call& c, const Bf16Matrix* w) {
  switch (TileWidth(launch, c)) {
    case 256:
      return StartBf16<kW, 256>(launch, c, w);
    case 128:
      return StartBf16<kW, 128>(launch, c, w);
    default:
      return StartBf16<kW, 64>(launch, c, w);
  }
}

}  // namespace

int64_t Bf16Workspace(const Bf16Call& c) {
  constexpr int kManyRows = 768;
  return c.weight == Bf16Weight::kE4M3 && c.n >= kManyRows ? int64_t(c.parts) * c.n_out * c.k * 2 : 0;
}

cudaError_t Bf16Linear(const Launch& launch, const Bf16Call& c, const Bf16Matrix* w, void* workspace) {
  if (c.n == 0 || c.n_out == 0) return cudaSuccess;
  if (c.parts > kBf16Parts || c.k % kTileK != 0 || c.n_out % 8 != 0) return cudaErrorInvalidValue;
  if (c.weight == Bf16Weight::kBF16) return StartBf16<Bf16Weight::kBF16>(launch, c, w);
  if (workspace == nullptr || Bf16Workspace(c) == 0) return StartBf16<Bf16Weight::kE4M3>(launch, c, w);
  PartWeights<Bf16Weight::kE4M3> codes = {};
  std::array<Bf16Matrix, kBf16Parts> expanded = {};
  for (int p = 0; p < c.parts; ++p) {
    codes.matrix[p] = w[p];
    expanded[size_t(p)].data = static_cast<uint8_t*>(workspace) + int64_t(p) * c.n_out * c.k * 2;
  }
  const int64_t pieces = int64_t(c.n_out) * (c.k / 16);
  const dim3 grid(unsigned((pieces + kExpandThreads - 1) / kExpandThreads), unsigned(c.parts));
  if (cudaError_t e = Start(launch, ExpandKernel, grid, kExpandThreads, 0, c, codes, static_cast<uint4*>(workspace));
      e != cudaSuccess) {
    return e;
  }
  Bf16Call call = c;
  call.weight = Bf16Weight::kBF16;
  return StartBf16<Bf16Weight::kBF16>(launch, call, expanded.data());
}

}  // namespace vexil::cuda
