// The warpgroups of cuda_matrix.cu that fill the ring of stages: dense tiles by tensor copies, tiles of experts by
// tensor copies of x and converting E2M1 weights. Included by cuda_matrix.cu only.
#pragma once

#include "ops/linear/cuda_matrix_tiles.cuh"

namespace vexil::cuda {
namespace {

// conversion[d + 8]: E4M3 codes of 2^d times the eight magnitudes of E2M1; the last entry is zeros.
__device__ inline void MakeConversion(uint2* conversion) {
  const int d = int(threadIdx.x) - 8;
  if (threadIdx.x > kPassExponents) return;
  uint32_t codes[8];
  for (int m = 0; m < 8; ++m) {
    const float value = m < 2 ? 0.5f * float(m) : (1.0f + 0.5f * float(m % 2)) * float(1 << (m / 2 - 1));
    codes[m] = threadIdx.x < kPassExponents ? E4M3x2FromF32(ldexpf(value, d), 0) & 0xff : 0;
  }
  conversion[threadIdx.x] = make_uint2(codes[0] | codes[1] << 8 | codes[2] << 16 | codes[3] << 24,
                                       codes[4] | codes[5] << 8 | codes[6] << 16 | codes[7] << 24);
}

// Eight E2M1 codes to E4M3 codes in the same order.
__device__ inline uint2 Convert(uint32_t w, uint2 table) {
  const uint32_t magnitude = w & 0x77777777u, sign = w & 0x88888888u;
  // A selector with its top bit set repeats the sign of the byte: 0xff for a negative code, else 0x80.
  const uint32_t low = PermuteBytes(0x80u, 0, sign), high = PermuteBytes(0x80u, 0, sign >> 16);
  return make_uint2(PermuteBytes(table.x, table.y, magnitude) | ((low << 1) & 0x80808080u),
                    PermuteBytes(table.x, table.y, magnitude >> 16) | ((high << 1) & 0x80808080u));
}

template <int kHalves>
__device__ void FillDense(const MatrixCall& c, const Maps& maps, const uint8_t* w_scale, uint8_t* shared,
                          StageInfo* info, uint64_t* full, uint64_t* empty) {
  constexpr int kStages = kDenseStages;
  using S = DenseLayout<kHalves>;
  const int tid = int(threadIdx.x) - kConsumers, blocks = c.k / kTileK;
  const int items = (c.n + kDenseM - 1) / kDenseM * ((c.n_out + kHalves * kHalfN - 1) / (kHalves * kHalfN));
  const int scale_rows = (c.n_out + kHalfN - 1) / kHalfN;
  RingPosition<kStages> ring;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile = DenseTile(c, item, kHalves * kHalfN);
    const uint8_t* x_scale = c.x_scale + (tile.row + min(tid, tile.rows - 1)) * c.x_scale_stride;
    const uint8_t* half_scale = w_scale + int64_t(min(tile.column / kHalfN + tid % 2, scale_rows - 1)) * blocks;
    uint8_t next_x = x_scale[0], next_w = half_scale[0];
    for (int block = 0; block < blocks; ++block) {
      const uint8_t sx = next_x;
      const float sw = F32FromE8M0(next_w);
      const int after = min(block + 1, blocks - 1);
      next_x = x_scale[after];
      next_w = half_scale[after];
      BarrierWait(empty + ring.stage, ring.parity ^ 1);
      StageInfo& s = info[ring.stage];
      s.x_scale[tid] = sx;
      if (tid < 2) s.w_scale[tid] = sw;
      if (tid == 0) {
        s.last = block + 1 == blocks;
        uint8_t* stage = shared + ring.stage * S::kStageBytes;
        BarrierArriveExpect(full + ring.stage, S::kStageBytes);
        TensorCopy2D(stage, &maps.x, block * kTileK, tile.row, full + ring.stage);
        TensorCopy2D(stage + S::kABytes, &maps.w, block * kTileK, tile.column, full + ring.stage);
      } else {
        BarrierArrive(full + ring.stage);
      }
      ring.Next();
    }
  }
}

// Where the weights of a tile lie, in shared memory: the threads that convert have no registers to spare, and what does
// not fit into registers costs hundreds of cycles a stage.
struct TileWeights {
  const uint8_t* data[2];  // of rows 0 .. 63 and 64 .. 127
  const uint8_t* scale[2];
};
struct ThreadOffsets {
  uint32_t data, scale;
};

// Starts the copies of this thread's E2M1 codes and scales of a block of K: group t % 4 of rows t / 4 and t / 4 + 64,
// which nobody else reads. The scales of row 64 i + t / 4 are held by lane 8 i + lane / 4 of its warp.
__device__ inline void FetchCodes(const volatile TileWeights& w, ThreadOffsets offset, int block, uint32_t slot,
                                  int t) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    CopyAsync16(slot + (i * 2 * kGroup + t) * 16, w.data[i] + (offset.data + uint32_t(block * (kTileK / 2))));
  }
  if (t % 32 < 16) {
    CopyAsync4(slot + kCodeBytes + (t / 32 * 16 + t % 32) * 4,
               w.scale[t % 16 / 8] + (offset.scale + uint32_t(block * 4)));
  }
}

// This thread's codes of a slot, as E4M3 in the stage's weight tile. `highest`: the greatest exponent of the pass, by
// half.
__device__ inline void ConvertCodes(const uint8_t* slot, const int (&highest)[2], const uint2* conversion,
                                    uint8_t* tile, int t) {
  const uint32_t held = *reinterpret_cast<const uint32_t*>(slot + kCodeBytes + (t / 32 * 16 + t % 16) * 4);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint4 codes = *reinterpret_cast<const uint4*>(slot + (i * 2 * kGroup + t) * 16);
    const uint32_t scales = __shfl_sync(0xffffffffu, held, i * 8 + t % 32 / 4);
    const uint32_t below = uint32_t(highest[i]) - (scales >> t % 4 * 8 & 0xff);  // 0 .. 14: of this pass
    const uint2 table = conversion[below < kPassExponents ? kPassExponents - 1 - below : kPassExponents];
    const uint2 c0 = Convert(codes.x, table), c1 = Convert(codes.y, table);
    const uint2 c2 = Convert(codes.z, table), c3 = Convert(codes.w, table);
    const int r = i * 64 + t / 4;
    uint8_t* row = tile + r * kTileK;
    *reinterpret_cast<uint4*>(row + ((t % 4 * 2) ^ (r % 8)) * 16) = make_uint4(c0.x, c0.y, c1.x, c1.y);
    *reinterpret_cast<uint4*>(row + ((t % 4 * 2 + 1) ^ (r % 8)) * 16) = make_uint4(c2.x, c2.y, c3.x, c3.y);
  }
}

// Both filling warpgroups together. What one thread does for all falls to different warps: a stage waits for the
// slowest.
template <Mode kMode, int kTable>
__device__ void FillGrouped(const MatrixCall& c, const CUtensorMap& x, const GroupWeights<kTable>& weights,
                            const uint16_t* references, const uint16_t* first_tile, uint8_t* shared, StageInfo* info,
                            uint64_t* full, uint64_t* empty) {
  constexpr int kStages = kGroupStages, kFill = 2 * kGroup;
  using S = GroupLayout;
  constexpr bool kGate = kMode == Mode::kGate;
  constexpr int kWidth = kGate ? kHalfN / 2 : kHalfN;
  const uint2* const conversion = reinterpret_cast<const uint2*>(shared + GroupShared::kConversion);
  uint16_t* const reference = reinterpret_cast<uint16_t*>(shared + GroupShared::kReferences);  // [half][block]
  const int t = int(threadIdx.x) - kConsumers, blocks = c.k / kTileK, column_tiles = c.n_out / kWidth;
  const int items = first_tile[c.experts] * column_tiles;
  const uint32_t slots = SharedAddress(shared + GroupShared::kFetch);
  volatile TileWeights& tile_weights = *reinterpret_cast<TileWeights*>(shared + GroupShared::kTileWeights);
  const ThreadOffsets offset = {uint32_t(t / 4 * (c.k / 2) + t % 4 * 16), uint32_t((t / 32 * 8 + t % 8) * (c.k / 32))};
  RingPosition<kStages> ring;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile = GroupTile(c, first_tile, item, column_tiles, kWidth);
    NamedBarrier<4, kFill>();
    if (t < 2) {  // rows 0 .. 63 and 64 .. 127 of the tile: of gate and of up, or consecutive rows of one weight
      const MatrixWeight& w = weights.w[kGate ? t : 0][tile.expert];
      const int64_t row = tile.column + (kGate ? 0 : t * 64);
      tile_weights.data[t] = static_cast<const uint8_t*>(w.data) + row * (c.k / 2);
      tile_weights.scale[t] = w.scale + row * (c.k / 32);
    }
    for (int i = t; i < 2 * blocks; i += kFill) {
      const int h = i / blocks, set = kGate ? h : 0;
      reference[h * kMaxBlocks + i % blocks] =
          references[(int64_t(set * c.experts + tile.expert) * (c.n_out / kHalfN) + tile.column / kHalfN) * blocks +
                     i % blocks];
    }
    NamedBarrier<4, kFill>();
#pragma unroll
    for (int i = 0; i < kFetchSlots - 1; ++i) {
      if (i < blocks) FetchCodes(tile_weights, offset, i, slots + i * kFetchBytes, t);
      CopyAsyncCommit();
    }
    const int pair = tile.row + min(t, tile.rows - 1);
    const uint8_t* const x_scale = c.x_scale + int64_t(c.rows ? c.rows[pair] : pair) * c.x_scale_stride;
    const int slices = (tile.rows + kSliceRows - 1) / kSliceRows;
    uint8_t sx = x_scale[0];
    for (int block = 0; block < blocks; ++block) {
      const uint8_t next_sx = x_scale[min(block + 1, blocks - 1)];
      const int ref[2] = {reference[block], reference[kMaxBlocks + block]};
      const int passes = max(ref[0] >> 9, ref[1] >> 9) + 1;
      const int ahead = block + kFetchSlots - 1;  // its slot was emptied by the block before this one
      if (ahead < blocks) FetchCodes(tile_weights, offset, ahead, slots + ahead % kFetchSlots * kFetchBytes, t);
      CopyAsyncCommit();
      CopyAsyncWait<kFetchSlots - 1>();
      for (int pass = 0; pass < passes; ++pass) {
        BarrierWait(empty + ring.stage, ring.parity ^ 1);
        uint8_t* stage = shared + ring.stage * S::kStageBytes;
        uint64_t* const bar = full + ring.stage;
        if (t == 32) {  // nobody reads slices without rows
          BarrierArriveExpect(bar, uint32_t(slices * kSliceRows * kTileK));
          for (int i = 0; i < slices; ++i) {
            TensorCopy2D(stage + i * kSliceRows * kTileK, &x, block * kTileK, tile.row + i * kSliceRows, bar);
          }
        }
        const int highest[2] = {(ref[0] & 0x1ff) - pass * kPassExponents, (ref[1] & 0x1ff) - pass * kPassExponents};
        StageInfo& s = info[ring.stage];
        s.x_scale[t] = sx;
        if (t == 64) s.w_scale[0] = ScaleFromExponent(highest[0] - 6);
        if (t == 96) s.w_scale[1] = ScaleFromExponent(highest[1] - 6);
        if (t == 128) s.last = block + 1 == blocks && pass + 1 == passes;
        ConvertCodes(shared + GroupShared::kFetch + block % kFetchSlots * kFetchBytes, highest, conversion,
                     stage + S::kABytes, t);
        FenceAsyncProxy();
        __syncwarp();
        if (t % 32 == 0) BarrierArrive(bar);
        ring.Next();
      }
      sx = next_sx;
    }
    CopyAsyncWait<0>();
  }
}

}  // namespace
}  // namespace vexil::cuda
