// Floor: every byte of the weights once, N K (1, 1/2 + 1/32, 2) bytes, at the rate at which memory reads.
//
// Work: a tile is 16 rows of the weight, or twice 16: of gate and up, or neighbours where rows are short (8 of a small
// weight, to reach every multiprocessor). A block takes a run of tiles; 4 warps of it keep a ring of stages filled by
// bulk copies, a tile's rows x 1024 bytes each, and 8 warps multiply: warp w takes bytes [128 w, 128 w + 128) of each
// row of a stage. Weights are the 16-row operand of a tensor core instruction, the rows of x its 8 columns (twice for
// more than 8), so that 1 row and 16 cost nearly the same. The rows of x stay in shared memory in the order in which
// the instruction wants them; the order of K is free as long as both operands agree.
//
// Types: E4M3 and E2M1 codes become f16, exactly, and are multiplied into f32 accumulators; the scales of a block (128
// values of x, 32 of an E2M1 weight) multiply the f32 sum of that block. Where x is BF16, E4M3 and I8 weights become
// BF16 too. A warp's blocks are added in ascending order, the 8 warps last: an order that depends on K alone.
#include <algorithm>

#include "ops/cuda/hopper.cuh"
#include "ops/linear/cuda_skinny.h"

namespace vexil::cuda {
namespace {

constexpr int kWarps = 8, kConsumers = kWarps * 32;
constexpr int kFillWarps = 4;  // each issues the copies of a quarter of the rows: issuing is slow
constexpr int kThreads = kConsumers + kFillWarps * 32;
constexpr int kWarpBytes = 128, kStageBytes = kWarps * kWarpBytes;  // of each row
constexpr int kPitch = kStageBytes + 64;                            // of a row in shared memory: no bank conflicts
constexpr int kScaleBytes = kStageBytes / 16, kScalePitch = kScaleBytes + 16;  // E2M1: scales of a row of a stage
constexpr int kRowPad = 64;   // bytes after a row of x in shared memory
constexpr int kSumPitch = 9;  // floats per row of a tile of partial sums
constexpr int kMaxChunks = 1024;

template <int kTable>
struct Weights {
  SkinnyMatrix w[2][kTable];  // gate and up, or the one weight
};

__host__ __device__ constexpr int ElementsPerWarp(SkinnyWeight f) {
  return f == SkinnyWeight::kE2M1 ? 2 * kWarpBytes : f == SkinnyWeight::kBF16 ? kWarpBytes / 2 : kWarpBytes;
}
__host__ __device__ constexpr int StageSize(SkinnyWeight f, int tile_rows) {
  return tile_rows * (kPitch + (f == SkinnyWeight::kE2M1 ? kScalePitch : 0));
}
__host__ __device__ constexpr int Stages(int tile_rows) { return tile_rows == 8 ? 8 : 4; }

// Shared memory: the ring, partial sums (two buffers), barriers, scales of x, rows of x, the list of chunks.
struct Layout {
  int sums, barriers, chunks, x_scale, x, total;
  __host__ __device__ Layout(SkinnyWeight f, SkinnyInput i, int tile_rows, int sets, int n_tiles, int rows, int k,
                             bool grouped) {
    sums = Stages(tile_rows) * StageSize(f, tile_rows);
    barriers = sums + 2 * kWarps * sets * n_tiles * tile_rows * kSumPitch * 4;
    chunks = barriers + 2 * Stages(tile_rows) * 8;
    x_scale = chunks + (grouped ? kMaxChunks * 4 : 0);
    x = x_scale + (i != SkinnyInput::kBF16 ? (rows * (k / 128) * 4 + 15) / 16 * 16 : 0);
    total = x + rows * (2 * k + kRowPad);
  }
};

__device__ inline uint4 Load16(const uint8_t* p) { return *reinterpret_cast<const uint4*>(p); }

// Where the eight elements k .. k + 7 of a row of x lie.
template <SkinnyWeight F>
__device__ inline int InputOffset(int k) {
  if constexpr (F == SkinnyWeight::kE4M3 || F == SkinnyWeight::kI8) {
    const int r = k % 64;
    return k / 64 * 128 + r % 16 / 8 * 64 + r / 16 * 16;
  } else {
    return k * 2;
  }
}

// Eight codes to f16, E2M1 weights in the order k = 0 2 4 6 1 3 5 7 in which E4M3FromE2M1 leaves them.
template <SkinnyWeight F>
__device__ inline uint4 CodesToF16(uint2 codes) {
  if constexpr (F == SkinnyWeight::kE2M1) {
    codes = make_uint2(__byte_perm(codes.x, codes.y, 0x6420), __byte_perm(codes.x, codes.y, 0x7531));
  }
  return make_uint4(F16x2FromE4M3x2(uint16_t(codes.x)), F16x2FromE4M3x2(uint16_t(codes.x >> 16)),
                    F16x2FromE4M3x2(uint16_t(codes.y)), F16x2FromE4M3x2(uint16_t(codes.y >> 16)));
}

// QuantizeActivation of 128 channels by 16 lanes with 8 channels each: their codes, and the scale.
__device__ inline uint2 Quantize(uint4 v, float& scale) {
  const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
  uint32_t max = 0;
#pragma unroll
  for (uint32_t p : pairs) max = umax(max, umax((p << 16) & 0x7fffffffu, p & 0x7fff0000u));
#pragma unroll
  for (int step = 8; step > 0; step /= 2) max = umax(max, __shfl_xor_sync(0xffffu << (threadIdx.x & 16), max, step));
  const uint32_t bits = __float_as_uint(fmaxf(__uint_as_float(max), 1e-4f) * (1.0f / 448.0f));
  const bool finite = max < 0x7f800000u;
  const int exponent = int(bits >> 23) - 127 + ((bits & 0x7fffffu) != 0);
  scale = finite ? __uint_as_float(uint32_t(exponent + 127) << 23) : __uint_as_float(0x7fc00000u);
  const float inverse = finite ? __uint_as_float(uint32_t(127 - exponent) << 23) : scale;
  uint16_t codes[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) codes[i] = E4M3x2FromF32(BF16Low(pairs[i]) * inverse, BF16High(pairs[i]) * inverse);
  return make_uint2(codes[0] | uint32_t(codes[1]) << 16, codes[2] | uint32_t(codes[3]) << 16);
}

// Rows first .. first + count of the chunk to shared memory, by all consumers. E2M1: the scales take the factor 2^6
// that E4M3FromE2M1 leaves out.
template <SkinnyWeight F, SkinnyInput I>
__device__ void StageInput(const SkinnyCall& c, int part, int first, int count, uint8_t* x, float* x_scale) {
  constexpr int kAhead = 4;  // rows whose loads are under way together
  const int pitch = 2 * c.k + kRowPad, blocks = c.k / 128;
  const float unit = F == SkinnyWeight::kE2M1 ? 64.0f : 1.0f;
  for (int r0 = 0; r0 < count; r0 += kAhead) {
    const uint8_t* from[kAhead];
    int64_t row[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int r = first + min(r0 + i, count - 1);
      row[i] = c.rows ? c.rows[r] : r;
      from[i] = static_cast<const uint8_t*>(c.x) + part * c.x_part_stride + row[i] * c.x_stride;
    }
    for (int k = int(threadIdx.x) * 8; k < c.k; k += kConsumers * 8) {
      uint4 v[kAhead];
      uint8_t scale[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if constexpr (I == SkinnyInput::kE4M3) {
          const uint2 codes = *reinterpret_cast<const uint2*>(from[i] + k);
          v[i] = make_uint4(codes.x, codes.y, 0, 0);
          scale[i] = c.x_scale[row[i] * c.x_scale_stride + k / 128];
        } else {
          v[i] = Load16(from[i] + 2 * k);
        }
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (r0 + i >= count) break;
        uint4 value = v[i];
        if constexpr (I != SkinnyInput::kBF16) {
          uint2 codes = make_uint2(v[i].x, v[i].y);
          float s;
          if constexpr (I == SkinnyInput::kE4M3) {
            s = F32FromE8M0(scale[i]);
          } else {
            codes = Quantize(v[i], s);
          }
          value = CodesToF16<F>(codes);
          if (k % 128 == 0) x_scale[(r0 + i) * blocks + k / 128] = s * unit;
        }
        *reinterpret_cast<uint4*>(x + (r0 + i) * pitch + InputOffset<F>(k)) = value;
      }
    }
  }
}

// What a lane multiplies in one stage.
template <int kNTiles>
struct Operands {
  const uint8_t* low;                // the warp's bytes of weight row g
  const uint8_t* high;               // of row g + 8
  const uint8_t* x[kNTiles];         // the warp's elements of the lane's row of x
  const float* x_scale[kNTiles][2];  // of the lane's two columns, at the warp's first block
  float scale_low, scale_high;       // E4M3: the block's; I8: of the rows
  uint2 codes_low, codes_high;       // E2M1: scales of 8 groups
};

// Two E4M3 codes, in the high bytes of the halves of `codes`, to BF16; exact but for NaN, which becomes a number.
__device__ inline uint32_t BF16x2FromE4M3(uint32_t codes) {
  const uint32_t bits = (codes & 0x80008000u) | (codes >> 4 & 0x07f007f0u);  // 2^-120 times the value
  uint32_t r;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(bits), "r"(0x7b807b80u));
  return r;
}

// E4M3 weights with rows of x in BF16.
template <int kNTiles>
__device__ inline void MultiplyE4M3ByBF16(const Operands<kNTiles>& o, float (&acc)[kNTiles][4]) {
  float part[kNTiles][2][4] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = Load16(o.low + half * 64), high = Load16(o.high + half * 64);
    const uint32_t a[4] = {low.x, low.y, low.z, low.w}, b[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint4 x[kNTiles];
#pragma unroll
      for (int t = 0; t < kNTiles; ++t) x[t] = Load16(o.x[t] + half * 128 + i * 64);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const uint32_t wa = a[2 * i + j], wb = b[2 * i + j];
        const uint32_t a0 = BF16x2FromE4M3(__byte_perm(wa, 0, 0x1404)), a2 = BF16x2FromE4M3(__byte_perm(wa, 0, 0x3424));
        const uint32_t a1 = BF16x2FromE4M3(__byte_perm(wb, 0, 0x1404)), a3 = BF16x2FromE4M3(__byte_perm(wb, 0, 0x3424));
#pragma unroll
        for (int t = 0; t < kNTiles; ++t) {
          MmaBF16(part[t][j], a0, a1, a2, a3, j ? x[t].z : x[t].x, j ? x[t].w : x[t].y);
        }
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kNTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      acc[t][i] += (part[t][0][i] + part[t][1][i]) * (i < 2 ? o.scale_low : o.scale_high);
    }
  }
}

template <int kNTiles>
__device__ inline void MultiplyE4M3(const Operands<kNTiles>& o, float (&acc)[kNTiles][4]) {
  float part[kNTiles][2][4] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = Load16(o.low + half * 64), high = Load16(o.high + half * 64);
    const uint32_t a[4] = {low.x, low.y, low.z, low.w}, b[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t w[2][4];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        w[j][0] = F16x2FromE4M3x2(uint16_t(a[2 * i + j]));
        w[j][1] = F16x2FromE4M3x2(uint16_t(b[2 * i + j]));
        w[j][2] = F16x2FromE4M3x2(uint16_t(a[2 * i + j] >> 16));
        w[j][3] = F16x2FromE4M3x2(uint16_t(b[2 * i + j] >> 16));
      }
#pragma unroll
      for (int t = 0; t < kNTiles; ++t) {
        const uint4 x = Load16(o.x[t] + half * 128 + i * 64);
        MmaF16(part[t][0], w[0][0], w[0][1], w[0][2], w[0][3], x.x, x.y);
        MmaF16(part[t][1], w[1][0], w[1][1], w[1][2], w[1][3], x.z, x.w);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kNTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      acc[t][i] += (part[t][0][i] + part[t][1][i]) * (o.x_scale[t][i % 2][0] * (i < 2 ? o.scale_low : o.scale_high));
    }
  }
}

__device__ inline float GroupScale(uint2 codes, int group) {
  const uint32_t word = group < 4 ? codes.x : codes.y;
  const int shift = 23 - 8 * (group % 4);
  const uint32_t bits = (shift >= 0 ? word << shift : word >> -shift) & 0x7f800000u;
  return __uint_as_float(umax(bits, 0x00400000u));
}

template <int kNTiles>
__device__ inline void MultiplyE2M1(const Operands<kNTiles>& o, float (&acc)[kNTiles][4]) {
  uint32_t codes[8][2];
#pragma unroll
  for (int group = 0; group < 8; ++group) {
    codes[group][0] = *reinterpret_cast<const uint32_t*>(o.low + group * 16);
    codes[group][1] = *reinterpret_cast<const uint32_t*>(o.high + group * 16);
  }
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    float sum[kNTiles][4] = {};
#pragma unroll
    for (int group = block * 4; group < block * 4 + 4; ++group) {
      uint32_t even[2], odd[2];
      E4M3FromE2M1(codes[group][0], even[0], odd[0]);
      E4M3FromE2M1(codes[group][1], even[1], odd[1]);
      const float low = GroupScale(o.codes_low, group), high = GroupScale(o.codes_high, group);
      uint32_t w[2][4];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        w[0][r] = F16x2FromE4M3x2(uint16_t(even[r]));
        w[0][2 + r] = F16x2FromE4M3x2(uint16_t(even[r] >> 16));
        w[1][r] = F16x2FromE4M3x2(uint16_t(odd[r]));
        w[1][2 + r] = F16x2FromE4M3x2(uint16_t(odd[r] >> 16));
      }
#pragma unroll
      for (int t = 0; t < kNTiles; ++t) {
        const uint4 x = Load16(o.x[t] + group * 64);
        float part[4] = {};
        MmaF16(part, w[0][0], w[0][1], w[0][2], w[0][3], x.x, x.y);
        MmaF16(part, w[1][0], w[1][1], w[1][2], w[1][3], x.z, x.w);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[t][i] = fmaf(part[i], i < 2 ? low : high, sum[t][i]);
      }
    }
#pragma unroll
    for (int t = 0; t < kNTiles; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[t][i] = fmaf(sum[t][i], o.x_scale[t][i % 2][block], acc[t][i]);
    }
  }
}

template <int kNTiles>
__device__ inline void MultiplyBF16(const Operands<kNTiles>& o, float (&acc)[kNTiles][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = Load16(o.low + half * 64), high = Load16(o.high + half * 64);
#pragma unroll
    for (int t = 0; t < kNTiles; ++t) {
      const uint4 x = Load16(o.x[t] + half * 64);
      MmaBF16(acc[t], low.x, high.x, low.y, high.y, x.x, x.y);
      MmaBF16(acc[t], low.z, high.z, low.w, high.w, x.z, x.w);
    }
  }
}

// bf16(q * scale) of two of the four signed bytes: those that `select` (a __byte_perm pattern) names.
__device__ inline uint32_t DequantizeI8(uint32_t flipped, int low, int high, float scale) {
  // 0x4b0000bb is 2^23 + bb; the bytes have their sign bit flipped, which adds 128.
  const float a = __uint_as_float(__byte_perm(flipped, 0x4b000000u, 0x7440 | low)) - 8388736.0f;
  const float b = __uint_as_float(__byte_perm(flipped, 0x4b000000u, 0x7440 | high)) - 8388736.0f;
  return PackBF16(a * scale, b * scale);
}

template <int kNTiles>
__device__ inline void MultiplyI8(const Operands<kNTiles>& o, float (&acc)[kNTiles][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = Load16(o.low + half * 64), high = Load16(o.high + half * 64);
    const uint32_t a[4] = {low.x, low.y, low.z, low.w}, b[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint4 x[kNTiles];
#pragma unroll
      for (int t = 0; t < kNTiles; ++t) x[t] = Load16(o.x[t] + half * 128 + i * 64);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const uint32_t wa = a[2 * i + j] ^ 0x80808080u, wb = b[2 * i + j] ^ 0x80808080u;
        const uint32_t a0 = DequantizeI8(wa, 0, 1, o.scale_low), a2 = DequantizeI8(wa, 2, 3, o.scale_low);
        const uint32_t a1 = DequantizeI8(wb, 0, 1, o.scale_high), a3 = DequantizeI8(wb, 2, 3, o.scale_high);
#pragma unroll
        for (int t = 0; t < kNTiles; ++t) {
          MmaBF16(acc[t], a0, a1, a2, a3, j ? x[t].z : x[t].x, j ? x[t].w : x[t].y);
        }
      }
    }
  }
}

// A piece of a block's work: rows [first, first + count) of y, all of one expert or part.
struct Chunk {
  int expert, first, count;
};

// The list of chunks of a group call, one word each (expert in the low byte), by all threads of the block. Every block
// makes the whole list. Returns its length.
__device__ int ListChunks(const SkinnyCall& c, int rows, uint32_t* list, int* scratch) {
  const int e = threadIdx.x, lane = e % 32;
  int first = 0, mine = 0;
  if (e < c.experts) {
    first = c.offsets[e];
    mine = (c.offsets[e + 1] - first + rows - 1) / rows;
  }
  int before = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, before, step);
    if (lane >= step) before += other;
  }
  if (lane == 31) scratch[e / 32] = before;
  __syncthreads();
  int total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w < e / 32) before += scratch[w];
    total += scratch[w];
  }
  before -= mine;
  for (int i = 0; i < mine; ++i) list[before + i] = uint32_t(first + i * rows) << 8 | uint32_t(e);
  __syncthreads();
  return total;
}

template <SkinnyWeight F, SkinnyInput I, int kTileRows, int kSets, bool kGate, int kNTiles, int kTable>
__global__ void __launch_bounds__(kThreads, kNTiles == 1 ? 2 : 1)
    SkinnyKernel(const __grid_constant__ SkinnyCall c, const __grid_constant__ Weights<kTable> weights,
                 const __grid_constant__ SkinnyGate gate, int chunk_rows) {
  constexpr bool kGrouped = kTable == kSkinnyExperts;
  constexpr int kStages = Stages(kTileRows), kStageSize = StageSize(F, kTileRows);
  extern __shared__ __align__(1024) uint8_t shared[];
  const Layout layout(F, I, kTileRows, kSets, kNTiles, chunk_rows, c.k, kGrouped);
  float* const sums = reinterpret_cast<float*>(shared + layout.sums);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + layout.barriers);
  uint64_t* const empty = full + kStages;
  uint32_t* const list = reinterpret_cast<uint32_t*>(shared + layout.chunks);
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;

  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      BarrierInit(full + s, 1);
      BarrierInit(empty + s, kWarps);
    }
    FenceBarrierInit();
  }
  LetSuccessorStart();
  const int chunks_per_part = (c.n + chunk_rows - 1) / chunk_rows;
  int chunks = kTable == kSkinnyParts ? c.parts * chunks_per_part : chunks_per_part;
  if constexpr (kGrouped) {
    WaitForPredecessor();
    chunks = ListChunks(c, chunk_rows, list, reinterpret_cast<int*>(shared + layout.sums));
  }
  __syncthreads();
  const auto chunk_at = [&](int i) {
    if constexpr (kGrouped) {
      const int e = int(list[i] & 0xff), first = int(list[i] >> 8);
      return Chunk{e, first, min(chunk_rows, c.offsets[e + 1] - first)};
    } else {
      const int part = kTable == kSkinnyParts ? i / chunks_per_part : 0,
                first = (i - part * chunks_per_part) * chunk_rows;
      return Chunk{part, first, min(chunk_rows, c.n - first)};
    }
  };

  constexpr int kItemRows = kGate ? kTileRows : kSets * kTileRows;
  const int tiles = (c.n_out + kItemRows - 1) / kItemRows;
  const int64_t items = int64_t(chunks) * tiles;
  const int begin = int(items * blockIdx.x / gridDim.x), end = int(items * (blockIdx.x + 1) / gridDim.x);
  const int row_bytes = c.k / ElementsPerWarp(F) * kWarpBytes;
  const int steps = (row_bytes + kStageBytes - 1) / kStageBytes;
  RingPosition<kStages> ring;

  if (warp >= kWarps) {  // fills the ring
    const uint64_t policy = EvictFirstPolicy();
    const int scales_per_row = c.k / 32;
    for (int item = begin; item < end; ++item) {
      const int e = kGrouped                 ? int(list[item / tiles] & 0xff)
                    : kTable == kSkinnyParts ? item / tiles / chunks_per_part
                                             : 0;
      for (int step = 0; step < kSets * steps; ++step) {
        const int set = step / steps, at = (step - set * steps) * kStageBytes, bytes = min(kStageBytes, row_bytes - at);
        const SkinnyMatrix& w = weights.w[kGate ? set : 0][e];
        const int row0 = item % tiles * kItemRows + (kGate ? 0 : set * kTileRows);
        const int rows = max(0, min(kTileRows, c.n_out - row0));
        BarrierWait(empty + ring.stage, ring.parity ^ 1);
        const uint32_t stage = SharedAddress(shared + ring.stage * kStageSize);
        uint64_t* const bar = full + ring.stage;
        if (threadIdx.x == kConsumers) {
          BarrierArriveExpect(bar, uint32_t(rows * (F == SkinnyWeight::kE2M1 ? bytes + bytes / 16 : bytes)));
        }
        constexpr int kShare = kTileRows / kFillWarps;
        const int r = (warp - kWarps) * kShare + lane % kShare;
        if (lane < kShare && r < rows) {
          BulkCopy(stage + r * kPitch, static_cast<const uint8_t*>(w.data) + int64_t(row0 + r) * row_bytes + at,
                   uint32_t(bytes), bar, policy);
        } else if (F == SkinnyWeight::kE2M1 && lane < 2 * kShare && r < rows) {
          BulkCopy(stage + kTileRows * kPitch + r * kScalePitch,
                   static_cast<const uint8_t*>(w.scale) + int64_t(row0 + r) * scales_per_row + at / 16,
                   uint32_t(bytes / 16), bar, policy);
        }
        ring.Next();
      }
    }
    return;
  }

  const int g = lane / 4, t = lane % 4;
  const int pitch = 2 * c.k + kRowPad, blocks = c.k / 128;
  uint8_t* const x = shared + layout.x;
  float* const x_scale = reinterpret_cast<float*>(shared + layout.x_scale);
  if constexpr (!kGrouped) WaitForPredecessor();
  int staged = -1, buffer = 0;
  Chunk chunk = {};
  for (int item = begin; item < end; ++item) {
    if (item / tiles != staged) {
      staged = item / tiles;
      chunk = chunk_at(staged);
      StageInput<F, I>(c, kTable == kSkinnyParts ? chunk.expert : 0, chunk.first, chunk.count, x, x_scale);
      NamedBarrier<1, kConsumers>();
    }
    const int row0 = item % tiles * kItemRows;
    float acc[kSets][kNTiles][4] = {};
#pragma unroll
    for (int set = 0; set < kSets; ++set) {
      const SkinnyMatrix& w = weights.w[kGate ? set : 0][chunk.expert];
      const int first_row = row0 + (kGate ? 0 : set * kTileRows) + g;
      const int row_low = min(first_row, c.n_out - 1), row_high = min(first_row + 8, c.n_out - 1);
      for (int step = 0; step < steps; ++step) {
        const int piece = step * kWarps + warp;  // of the row: the warp's
        const bool mine = piece * kWarpBytes < row_bytes;
        const uint8_t* stage = shared + ring.stage * kStageSize;
        Operands<kNTiles> o;
        if (F == SkinnyWeight::kE4M3 && mine) {  // before the wait, to hide behind it
          const uint8_t* scale = static_cast<const uint8_t*>(w.scale) + piece;
          o.scale_low = F32FromE8M0(scale[int64_t(row_low / c.scale_rows) * blocks]);
          o.scale_high = F32FromE8M0(scale[int64_t(row_high / c.scale_rows) * blocks]);
        } else if (F == SkinnyWeight::kI8) {
          o.scale_low = static_cast<const float*>(w.scale)[row_low];
          o.scale_high = static_cast<const float*>(w.scale)[row_high];
        }
#pragma unroll
        for (int nt = 0; nt < kNTiles; ++nt) {
          // Columns beyond the chunk repeat its last row; nobody reads their sums.
          o.x[nt] = x + min(nt * 8 + g, chunk.count - 1) * pitch + piece * ElementsPerWarp(F) * 2 + t * 16;
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            o.x_scale[nt][i] =
                x_scale + min(nt * 8 + 2 * t + i, chunk.count - 1) * blocks + piece * ElementsPerWarp(F) / 128;
          }
        }
        BarrierWait(full + ring.stage, ring.parity);
        if (mine) {
          constexpr int kLaneBytes = F == SkinnyWeight::kE2M1 ? 4 : 16;
          o.low = stage + g * kPitch + warp * kWarpBytes + t * kLaneBytes;
          o.high = kTileRows == 16 ? o.low + 8 * kPitch : o.low;
          if constexpr (F == SkinnyWeight::kE2M1) {
            const uint8_t* scale = stage + kTileRows * kPitch + g * kScalePitch + warp * 8;
            o.codes_low = *reinterpret_cast<const uint2*>(scale);
            o.codes_high = *reinterpret_cast<const uint2*>(kTileRows == 16 ? scale + 8 * kScalePitch : scale);
            MultiplyE2M1<kNTiles>(o, acc[set]);
          } else if constexpr (F == SkinnyWeight::kE4M3 && I == SkinnyInput::kBF16) {
            MultiplyE4M3ByBF16<kNTiles>(o, acc[set]);
          } else if constexpr (F == SkinnyWeight::kE4M3) {
            MultiplyE4M3<kNTiles>(o, acc[set]);
          } else if constexpr (F == SkinnyWeight::kBF16) {
            MultiplyBF16<kNTiles>(o, acc[set]);
          } else {
            MultiplyI8<kNTiles>(o, acc[set]);
          }
        }
        __syncwarp();
        if (lane == 0) BarrierArrive(empty + ring.stage);
        ring.Next();
      }
    }

    constexpr int kTileSums = kTileRows * kSumPitch, kWarpSums = kSets * kNTiles * kTileSums;
    float* const buffered = sums + buffer * kWarps * kWarpSums;
#pragma unroll
    for (int set = 0; set < kSets; ++set) {
#pragma unroll
      for (int nt = 0; nt < kNTiles; ++nt) {
        float* to = buffered + warp * kWarpSums + (set * kNTiles + nt) * kTileSums;
#pragma unroll
        for (int i = 0; i < kTileRows / 4; ++i) to[(g + i / 2 * 8) * kSumPitch + 2 * t + i % 2] = acc[set][nt][i];
      }
    }
    NamedBarrier<1, kConsumers>();
    const int row = int(threadIdx.x) % kTileRows, column = int(threadIdx.x) / kTileRows;
    if (column < chunk.count && row0 + row < c.n_out) {
      float value[kSets];
#pragma unroll
      for (int set = 0; set < kSets; ++set) {
        const float* from = buffered + (set * kNTiles + column / 8) * kTileSums + row * kSumPitch + column % 8;
        value[set] = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) value[set] += from[w * kWarpSums];
        // An infinite group scale stands for the NaN of E8M0.
        if (F == SkinnyWeight::kE2M1 && isinf(value[set])) value[set] = __uint_as_float(0x7fc00000u);
      }
      const int64_t p = chunk.first + column;
      const int64_t at = p * c.y_stride + (kTable == kSkinnyParts ? chunk.expert * c.y_part_stride : 0) + row0 + row;
      if constexpr (kGate) {
        const float limit = gate.limit > 0 ? gate.limit : __uint_as_float(0x7f800000u);
        const float a = RoundToBF16(value[0]), b = RoundToBF16(value[1]);
        const float clamped = a > limit ? limit : a, up = b > limit ? limit : b < -limit ? -limit : b;
        float v = clamped / (1.0f + expf(-clamped)) * up;
        if (gate.row_weight) v *= gate.row_weight[gate.row_index ? gate.row_index[p] : p];
        static_cast<__nv_bfloat16*>(c.y)[at] = __float2bfloat16_rn(v);
      } else {
#pragma unroll
        for (int set = 0; set < kSets; ++set) {
          if (row0 + set * kTileRows + row >= c.n_out) break;
          if (c.y_f32) {
            static_cast<float*>(c.y)[at + set * kTileRows] = value[set];
          } else {
            static_cast<__nv_bfloat16*>(c.y)[at + set * kTileRows] = __float2bfloat16_rn(value[set]);
          }
        }
      }
    }
    buffer ^= 1;
  }
}

constexpr size_t kSharedLimit = 227 * 1024;

template <SkinnyWeight F, SkinnyInput I, int kTileRows, int kSets, bool kGate, int kNTiles, int kTable>
cudaError_t StartSkinny(const Launch& launch, const SkinnyCall& c, const Weights<kTable>& weights,
                        const SkinnyGate& gate, int chunk_rows) {
  const size_t shared =
      size_t(Layout(F, I, kTileRows, kSets, kNTiles, chunk_rows, c.k, kTable == kSkinnyExperts).total);
  const int64_t chunks =
      kTable == kSkinnyExperts ? c.pairs : int64_t(std::max(c.parts, 1)) * ((c.n + chunk_rows - 1) / chunk_rows);
  constexpr int kItemRows = kGate ? kTileRows : kSets * kTileRows;
  const int64_t items = chunks * ((c.n_out + kItemRows - 1) / kItemRows);
  if (items == 0) return cudaSuccess;
  // Two blocks hide each other's latencies.
  const int fit = shared <= kSharedLimit / 2 - 1024 ? 2 : 1;
  const int per_sm = c.blocks_per_sm ? std::min(fit, c.blocks_per_sm) : fit;
  const int blocks = int(std::min<int64_t>(items, int64_t(launch.sms) * per_sm));
  return Start(launch, SkinnyKernel<F, I, kTileRows, kSets, kGate, kNTiles, kTable>, dim3(unsigned(blocks)), kThreads,
               shared, c, weights, gate, chunk_rows);
}

template <SkinnyWeight F, SkinnyInput I, int kTileRows, int kSets>
cudaError_t StartLinear(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix& w) {
  Weights<1> weights = {};
  weights.w[0][0] = w;
  const int rows = std::min(c.n, kSkinnyRows);
  const bool fits = size_t(Layout(F, I, kTileRows, kSets, 2, rows, c.k, false).total) <= kSharedLimit;
  if (rows > 8 && fits) return StartSkinny<F, I, kTileRows, kSets, false, 2, 1>(launch, c, weights, {}, rows);
  return StartSkinny<F, I, kTileRows, kSets, false, 1, 1>(launch, c, weights, {}, std::min(rows, 8));
}

template <SkinnyWeight F, SkinnyInput I>
cudaError_t StartLinear(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix& w) {
  if (c.n_out < 16 * launch.sms) return StartLinear<F, I, 8, 1>(launch, c, w);
  const bool short_rows = c.k / ElementsPerWarp(F) * kWarpBytes <= 2 * kStageBytes && c.n_out >= 128 * launch.sms;
  return short_rows ? StartLinear<F, I, 16, 2>(launch, c, w) : StartLinear<F, I, 16, 1>(launch, c, w);
}

template <bool kGate, SkinnyWeight F, SkinnyInput I>
cudaError_t StartGrouped(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix* w, const SkinnyMatrix* up,
                         const SkinnyGate& gate) {
  if (c.experts > kSkinnyExperts || c.pairs / 8 + c.experts > kMaxChunks) return cudaErrorInvalidValue;
  Weights<kSkinnyExperts> weights = {};
  for (int e = 0; e < c.experts; ++e) {
    weights.w[0][e] = w[e];
    if (up) weights.w[1][e] = up[e];
  }
  return StartSkinny<F, I, 16, 2, kGate, 1, kSkinnyExperts>(launch, c, weights, gate,
                                                            std::min(c.pairs <= c.experts ? 4 : 8, c.n));
}

template <bool kGate>
cudaError_t DispatchGrouped(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix* w, const SkinnyMatrix* up,
                            const SkinnyGate& gate) {
  using W = SkinnyWeight;
  using X = SkinnyInput;
  const auto is = [&](W weight, X input) { return c.weight == weight && c.input == input; };
  if (is(W::kE2M1, X::kE4M3)) return StartGrouped<kGate, W::kE2M1, X::kE4M3>(launch, c, w, up, gate);
  if (is(W::kE2M1, X::kBF16Quantize)) return StartGrouped<kGate, W::kE2M1, X::kBF16Quantize>(launch, c, w, up, gate);
  if (is(W::kE4M3, X::kE4M3)) return StartGrouped<kGate, W::kE4M3, X::kE4M3>(launch, c, w, up, gate);
  if (is(W::kE4M3, X::kBF16Quantize)) return StartGrouped<kGate, W::kE4M3, X::kBF16Quantize>(launch, c, w, up, gate);
  return cudaErrorNotSupported;
}

}  // namespace

cudaError_t SkinnyLinear(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix& w) {
  using W = SkinnyWeight;
  using X = SkinnyInput;
  const auto is = [&](W weight, X input) { return c.weight == weight && c.input == input; };
  if (is(W::kE4M3, X::kE4M3)) return StartLinear<W::kE4M3, X::kE4M3>(launch, c, w);
  if (is(W::kE4M3, X::kBF16Quantize)) return StartLinear<W::kE4M3, X::kBF16Quantize>(launch, c, w);
  if (is(W::kE4M3, X::kBF16)) return StartLinear<W::kE4M3, X::kBF16>(launch, c, w);
  if (is(W::kE2M1, X::kE4M3)) return StartLinear<W::kE2M1, X::kE4M3>(launch, c, w);
  if (is(W::kE2M1, X::kBF16Quantize)) return StartLinear<W::kE2M1, X::kBF16Quantize>(launch, c, w);
  if (is(W::kBF16, X::kBF16)) return StartLinear<W::kBF16, X::kBF16>(launch, c, w);
  if (is(W::kI8, X::kBF16)) return StartLinear<W::kI8, X::kBF16>(launch, c, w);
  return cudaErrorNotSupported;
}

cudaError_t SkinnyPartsLinear(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix* w) {
  using W = SkinnyWeight;
  using X = SkinnyInput;
  if (c.parts > kSkinnyParts || c.input != X::kBF16) return cudaErrorNotSupported;
  Weights<kSkinnyParts> weights = {};
  for (int i = 0; i < c.parts; ++i) weights.w[0][i] = w[i];
  const int rows = std::min(c.n, 8);
  if (c.weight == W::kE4M3)
    return StartSkinny<W::kE4M3, X::kBF16, 16, 1, false, 1, kSkinnyParts>(launch, c, weights, {}, rows);
  if (c.weight == W::kBF16)
    return StartSkinny<W::kBF16, X::kBF16, 16, 1, false, 1, kSkinnyParts>(launch, c, weights, {}, rows);
  return cudaErrorNotSupported;
}

cudaError_t SkinnyGroupedLinear(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix* w) {
  return DispatchGrouped<false>(launch, c, w, nullptr, {});
}

cudaError_t SkinnyGroupedGate(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix* gate_weights,
                              const SkinnyMatrix* up, const SkinnyGate& gate) {
  return DispatchGrouped<true>(launch, c, gate_weights, up, gate);
}

}  // namespace vexil::cuda
