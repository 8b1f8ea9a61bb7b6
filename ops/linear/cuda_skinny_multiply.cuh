// What a warp of cuda_skinny.cu does with a stage: how shared memory is laid out, rows of x on their way into it, and
// the products in every format.
#pragma once

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
// Groups have short chunks: with a stage less two blocks fit on a multiprocessor.
__host__ __device__ constexpr int Stages(int tile_rows, bool grouped) { return tile_rows == 8 ? 8 : grouped ? 3 : 4; }

// Shared memory: the ring, partial sums (two buffers), barriers, the list of chunks and their number, scales of x, rows
// of x.
struct Layout {
  int sums, barriers, chunks, x_scale, x, total;
  __host__ __device__ Layout(SkinnyWeight f, SkinnyInput i, int tile_rows, int sets, int n_tiles, int rows, int k,
                             bool grouped) {
    sums = Stages(tile_rows, grouped) * StageSize(f, tile_rows);
    barriers = sums + 2 * kWarps * sets * n_tiles * tile_rows * kSumPitch * 4;
    chunks = barriers + 2 * Stages(tile_rows, grouped) * 8;
    x_scale = chunks + (grouped ? kSkinnyChunks * 4 + 16 : 0);
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

}  // namespace
}  // namespace vexil::cuda
