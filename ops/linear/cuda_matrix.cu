// Floor: 2 n N K operations at the FP8 rate of the tensor cores (with block scales about 1150 TFLOP/s were measured on
// an H200 with a vendor library).
//
// Work: a block stays on its multiprocessor and takes tiles, whose operands travel through a ring of stages, 128 values
// of K each. Two warpgroups multiply, others fill the ring.
// Dense: tiles of 128 rows of x by 128 or 256 of the weight; tensor copies started by one warpgroup; a multiplying
// warpgroup has 64 rows of the narrow tile, or 128 columns of the wide one (as two slices of 64 rows).
// Groups: tiles of 256 rows of x (mostly all of an expert's) by 128 of the weight, or 64 of gate and 64 of up; two
// warpgroups gather rows of x and convert E2M1 weights, each once per tile; the multiplying warpgroups take turns at
// the slices of 64 rows, and slices without rows cost nothing.
//
// Types: E4M3 products; the tensor core adds the 128 products of a block at its own precision (about 14 bits below the
// largest product); block sums times their two scales are added in f32, ascending. One rounding to BF16.
//
// E2M1 in E4M3: a group of 32 weights has the scale 2^s. Relative to a reference exponent r of its block of 128 x 128
// weights, E4M3 holds the group's values exactly when -8 <= s - r <= 6. Blocks with a wider range are taken in several
// passes, each with a lower reference and zeros for the groups that belong to other passes.
#include <cuda.h>

#include <algorithm>
#include <type_traits>

#include "ops/cuda/hopper.cuh"
#include "ops/linear/cuda_matrix.h"

namespace vexil::cuda {
namespace {

constexpr int kDenseM = 128, kGroupM = 256, kTileK = 128, kHalfN = 128;
constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kConsumers = 2 * kGroup;
constexpr int kHalfBytes = kHalfN * kTileK;   // 128 rows of an operand
constexpr int kSliceBytes = 64 * kHalfN * 2;  // results of a slice, on their way out
constexpr int kPassExponents = 15;            // exponents that one pass holds
constexpr int kMaxGroups = kMatrixExperts;
constexpr uint32_t kAbsent = 1u << 31;  // marks a row that a tile does not have

enum class Mode { kDense, kGrouped, kGate };
__host__ __device__ constexpr int FillGroups(Mode m) { return m == Mode::kDense ? 1 : 2; }
__host__ __device__ constexpr int Threads(Mode m) { return kConsumers + FillGroups(m) * kGroup; }

// What a stage says beside its operands.
struct StageInfo {
  uint8_t x_scale[kGroupM];  // E8M0
  float w_scale[2];          // dense: of each 128 rows of the weight; groups: of each 64
  int last;                  // of the tile
  int padding[5];
};

// Stages of `kRows` rows of x and `kColumns` of the weight.
template <int kRows, int kColumns, int kStages>
struct SharedLayout {
  static constexpr int kABytes = kRows * kTileK, kStageBytes = kABytes + kColumns * kTileK;
  static constexpr int kOut = kStages * kStageBytes;
  static constexpr int kInfo = kOut + 2 * kSliceBytes;
  static constexpr int kBarriers = kInfo + kStages * int(sizeof(StageInfo));
  static constexpr int kTotal = kBarriers + 2 * kStages * 8;
};
// Dense tiles keep 4 stages; a group call gives one up for the E2M1 codes and scales on their way to conversion.
constexpr int kDenseStages = 4, kGroupStages = 3;
template <int kHalves>
using DenseLayout = SharedLayout<kDenseM, kHalves * kHalfN, kDenseStages>;
using GroupLayout = SharedLayout<kGroupM, kHalfN, kGroupStages>;
constexpr int kFetchSlots = 3, kCodeBytes = kHalfN * kTileK / 2, kFetchBytes = kCodeBytes + kHalfN * 4;
constexpr int kMaxBlocks = 128;  // of K in a group call
// A group call also holds the conversion table, the references of the tile's weights, where its rows of x begin, and
// the first tile of every expert.
struct GroupShared {
  static constexpr int kFetch = (GroupLayout::kTotal + 15) / 16 * 16;
  static constexpr int kConversion = kFetch + kFetchSlots * kFetchBytes;
  static constexpr int kReferences = kConversion + (kPassExponents + 1) * 8;
  static constexpr int kGather = kReferences + 2 * kMaxBlocks * 2;
  static constexpr int kFirstTile = kGather + kGroupM * 4;
  static constexpr int kTotal = kFirstTile + (kMaxGroups + 1) * 2;
};

template <int kTable>
struct GroupWeights {
  MatrixWeight w[2][kTable];
};
struct Maps {
  CUtensorMap x, w;
};
struct Output {
  void* y;
  int64_t stride;
  MatrixGate gate;
  const uint16_t* references;  // group calls: [set][expert][N / 128][K / 128], exponent + (passes - 1) << 9
};

// 2^(e - 127) for any e of a reference, which may be below the least scale.
__device__ inline float ScaleFromExponent(int e) {
  return e >= 255 ? __uint_as_float(0x7fc00000u) : ldexpf(1.0f, e - 127);
}

// ---- tiles ----

struct Tile {
  int expert, row, rows, column;  // rows [row, row + rows) of y, columns from `column`
};

// Tile `item`: rows fastest, so that blocks that run together share a weight.
__device__ inline Tile DenseTile(const MatrixCall& c, int item, int width) {
  const int row_tiles = (c.n + kDenseM - 1) / kDenseM;
  const int row = item % row_tiles * kDenseM;
  return {0, row, min(kDenseM, c.n - row), item / row_tiles * width};
}
__device__ inline Tile GroupTile(const MatrixCall& c, const uint16_t* first_tile, int item, int column_tiles,
                                 int width) {
  int low = 0, high = c.experts;  // first_tile[low] * column_tiles <= item < first_tile[high] * column_tiles
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (first_tile[middle] * column_tiles <= item ? low : high) = middle;
  }
  const int row_tiles = first_tile[low + 1] - first_tile[low], rest = item - first_tile[low] * column_tiles;
  const int begin = c.offsets[low] + rest % row_tiles * kGroupM;
  return {low, begin, min(kGroupM, c.offsets[low + 1] - begin), rest / row_tiles * width};
}

// first_tile[e]: row tiles of the experts before e, by all threads of the block.
__device__ inline void CountTiles(const MatrixCall& c, uint16_t* first_tile, int* scratch) {
  const int e = threadIdx.x, lane = e % 32;
  const int mine = e < c.experts ? (c.offsets[e + 1] - c.offsets[e] + kGroupM - 1) / kGroupM : 0;
  int sum = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) scratch[e / 32] = sum;
  __syncthreads();
  for (int w = 0; w < e / 32; ++w) sum += scratch[w];
  if (e < c.experts) first_tile[e + 1] = uint16_t(sum);
  if (e == 0) first_tile[0] = 0;
  __syncthreads();
}

// ---- filling the ring ----

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

// Starts the copies of this thread's E2M1 codes and scales of a block of K: group t % 4 of rows t / 4 and t / 4 + 64,
// which nobody else reads. The scales of row 64 i + t / 4 are held by lane 8 i + lane / 4 of its warp.
__device__ inline void FetchCodes(const uint8_t* const (&data)[2], const uint8_t* scale, int block, uint32_t slot,
                                  int t) {
#pragma unroll
  for (int i = 0; i < 2; ++i) CopyAsync16(slot + (i * 2 * kGroup + t) * 16, data[i] + block * (kTileK / 2));
  if (t % 32 < 16) CopyAsync4(slot + kCodeBytes + (t / 32 * 16 + t % 32) * 4, scale + block * 4);
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

// Both filling warpgroups together.
template <Mode kMode, int kTable>
__device__ void FillGrouped(const MatrixCall& c, const GroupWeights<kTable>& weights, const uint16_t* references,
                            const uint16_t* first_tile, uint8_t* shared, StageInfo* info, uint64_t* full,
                            uint64_t* empty) {
  constexpr int kStages = kGroupStages, kFill = 2 * kGroup;
  using S = GroupLayout;
  constexpr bool kGate = kMode == Mode::kGate;
  constexpr int kWidth = kGate ? kHalfN / 2 : kHalfN;
  const uint2* const conversion = reinterpret_cast<const uint2*>(shared + GroupShared::kConversion);
  uint16_t* const reference = reinterpret_cast<uint16_t*>(shared + GroupShared::kReferences);  // [half][block]
  uint32_t* const gather = reinterpret_cast<uint32_t*>(shared + GroupShared::kGather);
  const int t = int(threadIdx.x) - kConsumers, blocks = c.k / kTileK, column_tiles = c.n_out / kWidth;
  const int items = first_tile[c.experts] * column_tiles;
  const uint32_t slots = SharedAddress(shared + GroupShared::kFetch);
  RingPosition<kStages> ring;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile = GroupTile(c, first_tile, item, column_tiles, kWidth);
    // Rows 0 .. 63 and 64 .. 127 of the tile: of gate and of up, or consecutive rows of one weight.
    const uint8_t* data[2];
    const auto row_of = [&](int h, int r) { return int64_t(tile.column) + (kGate ? 0 : h * 64) + r; };
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      data[h] = static_cast<const uint8_t*>(weights.w[kGate ? h : 0][tile.expert].data) + row_of(h, t / 4) * (c.k / 2) +
                t % 4 * 16;
    }
    const int scale_half = t % 16 / 8;
    const uint8_t* scale =
        weights.w[kGate ? scale_half : 0][tile.expert].scale + row_of(scale_half, t / 32 * 8 + t % 8) * (c.k / 32);
#pragma unroll
    for (int i = 0; i < kFetchSlots - 1; ++i) {
      if (i < blocks) FetchCodes(data, scale, i, slots + i * kFetchBytes, t);
      CopyAsyncCommit();
      CopyAsyncCommit();  // in the place of a stage's rows of x
    }
    const int pair = tile.row + min(t, tile.rows - 1);
    const int64_t row = c.rows ? c.rows[pair] : pair;
    NamedBarrier<4, kFill>();
    gather[t] = uint32_t(row * (c.x_stride / 16)) + (t < tile.rows ? 0 : kAbsent);
    for (int i = t; i < 2 * blocks; i += kFill) {
      const int h = i / blocks, set = kGate ? h : 0;
      reference[h * kMaxBlocks + i % blocks] =
          references[(int64_t(set * c.experts + tile.expert) * (c.n_out / kHalfN) + tile.column / kHalfN) * blocks +
                     i % blocks];
    }
    NamedBarrier<4, kFill>();
    const uint8_t* x_scale = c.x_scale + row * c.x_scale_stride;
    uint8_t sx = x_scale[0];
    for (int block = 0; block < blocks; ++block) {
      const uint8_t next_sx = x_scale[min(block + 1, blocks - 1)];
      const int ref[2] = {reference[block], reference[kMaxBlocks + block]};
      const int passes = max(ref[0] >> 9, ref[1] >> 9) + 1;
      for (int pass = 0; pass < passes; ++pass) {
        if (pass == 0) {
          const int ahead = block + kFetchSlots - 1;  // its slot was emptied by the block before this one
          if (ahead < blocks) FetchCodes(data, scale, ahead, slots + ahead % kFetchSlots * kFetchBytes, t);
          CopyAsyncCommit();
        }
        BarrierWait(empty + ring.stage, ring.parity ^ 1);
        uint8_t* stage = shared + ring.stage * S::kStageBytes;
        const uint32_t a = SharedAddress(stage) + t / 8 * kTileK + ((t % 8) ^ (t / 8 % 8)) * 16;
        const uint8_t* from = c.x + (block * kTileK + t % 8 * 16);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (i % 2 == 0 && i * 32 >= tile.rows) break;  // nobody reads slices without rows
          const uint32_t at = gather[i * 32 + t / 8];
          CopyAsync16(a + i * 32 * kTileK, from + int64_t(at & ~kAbsent) * 16, at < kAbsent);
        }
        BarrierArriveAfterCopies(full + ring.stage);
        CopyAsyncCommit();
        const int highest[2] = {(ref[0] & 0x1ff) - pass * kPassExponents, (ref[1] & 0x1ff) - pass * kPassExponents};
        StageInfo& s = info[ring.stage];
        s.x_scale[t] = sx;
        if (t < 2) s.w_scale[t] = ScaleFromExponent(highest[t] - 6);
        if (t == 0) s.last = block + 1 == blocks && pass + 1 == passes;
        // Of the groups of copies that follow those of this block's codes, five are of later blocks and of rows of x.
        CopyAsyncWait<5>();
        ConvertCodes(shared + GroupShared::kFetch + block % kFetchSlots * kFetchBytes, highest, conversion,
                     stage + S::kABytes, t);
        BarrierArrive(full + ring.stage);
        ring.Next();
      }
      sx = next_sx;
    }
    CopyAsyncWait<0>();
  }
}

// ---- multiplying ----

// What a multiplying warpgroup makes of a tile: slices of 64 rows, `a_step` bytes apart, by 128 columns.
struct Share {
  int a_offset, a_step, b_offset;  // in a stage
  int row, row_step;               // of the slices in the tile
  int slices;
  int w_scale[2];  // which scales belong to its columns 0 .. 63 and 64 .. 127
};

// acc[s] = products of slice s. kOrdinaryCopies: the stages are not written by the copy engine.
template <int kSlices, int kStageBytes, int kStages, bool kOrdinaryCopies>
__device__ inline void MultiplyTile(float (&acc)[kSlices][64], const uint8_t* shared, const Share& share,
                                    const StageInfo* info, uint64_t* full, uint64_t* empty,
                                    RingPosition<kStages>& ring) {
  const int tid = int(threadIdx.x) % kGroup;
  const int row = share.row + tid / 32 * 16 + tid % 32 / 4;
#pragma unroll
  for (int s = 0; s < kSlices; ++s) {
#pragma unroll
    for (int i = 0; i < 64; ++i) acc[s][i] = 0;
  }
  bool last = false;
  while (!last) {
    BarrierWait(full + ring.stage, ring.parity);
    if (kOrdinaryCopies) FenceAsyncProxy();
    const uint8_t* stage = shared + ring.stage * kStageBytes;
    const StageInfo& si = info[ring.stage];
    const float sw[2] = {si.w_scale[share.w_scale[0]], si.w_scale[share.w_scale[1]]};
    last = si.last;
#pragma unroll
    for (int s = 0; s < kSlices; ++s) {
      if (s >= share.slices) break;
      float part[64];
      const uint64_t a = SwizzledTile(stage + share.a_offset + s * share.a_step),
                     b = SwizzledTile(stage + share.b_offset);
      WarpgroupFence();
#pragma unroll
      for (int k = 0; k < 4; ++k) WgmmaE4M3N128(part, a + 2 * k, b + 2 * k, k > 0);
      WarpgroupCommit();
      const float low = F32FromE8M0(si.x_scale[row + s * share.row_step]),
                  high = F32FromE8M0(si.x_scale[row + s * share.row_step + 8]);
      const float scale[4] = {low * sw[0], high * sw[0], low * sw[1], high * sw[1]};
      WarpgroupWait<0>();
#pragma unroll
      for (int i = 0; i < 64; ++i) acc[s][i] = fmaf(part[i], scale[i / 32 * 2 + i % 4 / 2], acc[s][i]);
    }
    __syncwarp();
    if (tid % 32 == 0) BarrierArrive(empty + ring.stage);
    ring.Next();
  }
}

// A slice of 64 x 128 results to shared memory as BF16: row r is 256 bytes, its 16-byte chunk j lies at j ^ (r % 8).
__device__ inline void StageSlice(const float (&acc)[64], uint8_t* out) {
  const int tid = int(threadIdx.x) % kGroup, r = tid / 32 * 16 + tid % 32 / 4;
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    uint8_t* at = out + r * 256 + ((j ^ (r % 8)) * 16) + tid % 4 * 4;
    *reinterpret_cast<uint32_t*>(at) = PackBF16(acc[4 * j], acc[4 * j + 1]);
    *reinterpret_cast<uint32_t*>(at + 8 * 256) = PackBF16(acc[4 * j + 2], acc[4 * j + 3]);
  }
}
__device__ inline uint4 StagedChunk(const uint8_t* out, int r, int j) {
  return *reinterpret_cast<const uint4*>(out + r * 256 + ((j ^ (r % 8)) * 16));
}

// Writes the staged slice, `rows` rows from y: one warpgroup.
__device__ inline void WriteSlice(const uint8_t* out, __nv_bfloat16* y, int64_t stride, int rows, int columns) {
  const int tid = int(threadIdx.x) % kGroup;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int r = i * 8 + tid / 16, j = tid % 16;
    if (r < rows && j * 8 < columns) *reinterpret_cast<uint4*>(y + r * stride + j * 8) = StagedChunk(out, r, j);
  }
}

__device__ inline float Gated(float a, float b, float limit, float weight) {
  const float gate = a > limit ? limit : a, up = b > limit ? limit : b < -limit ? -limit : b;
  return gate / (1.0f + expf(-gate)) * up * weight;
}

// Writes the gated activation of a staged slice, whose columns are 64 of gate and 64 of up: one warpgroup, two threads
// a row.
__device__ inline void WriteGatedSlice(const uint8_t* out, const MatrixGate& gate, __nv_bfloat16* y, int64_t stride,
                                       int row, int rows) {
  const int tid = int(threadIdx.x) % kGroup, r = tid / 2;
  if (r >= rows) return;
  const int p = row + r;
  const float weight = gate.row_weight ? gate.row_weight[gate.row_index ? gate.row_index[p] : p] : 1.0f;
  const float limit = gate.limit > 0 ? gate.limit : __uint_as_float(0x7f800000u);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int chunk = tid % 2 * 4 + j;
    const uint4 a = StagedChunk(out, r, chunk), b = StagedChunk(out, r, 8 + chunk);
    const uint32_t as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
    uint32_t v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = PackBF16(Gated(BF16Low(as[i]), BF16Low(bs[i]), limit, weight),
                      Gated(BF16High(as[i]), BF16High(bs[i]), limit, weight));
    }
    *reinterpret_cast<uint4*>(y + r * stride + chunk * 8) = make_uint4(v[0], v[1], v[2], v[3]);
  }
}

template <Mode kMode, int kHalves, int kTable>
__global__ void __launch_bounds__(Threads(kMode), 1)
    MatrixKernel(const __grid_constant__ MatrixCall c, const __grid_constant__ Maps maps,
                 const __grid_constant__ GroupWeights<kTable> weights, const __grid_constant__ Output out) {
  constexpr bool kGrouped = kMode != Mode::kDense;
  constexpr int kStages = kGrouped ? kGroupStages : kDenseStages;
  using S = std::conditional_t<kGrouped, GroupLayout, DenseLayout<kHalves>>;
  constexpr int kSlices = kGrouped ? 2 : kHalves;
  constexpr int kWidth = kMode == Mode::kGate ? kHalfN / 2 : kHalves * kHalfN;
  extern __shared__ __align__(1024) uint8_t shared[];
  StageInfo* const info = reinterpret_cast<StageInfo*>(shared + S::kInfo);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + S::kBarriers);
  uint64_t* const empty = full + kStages;
  uint16_t* const first_tile = reinterpret_cast<uint16_t*>(shared + GroupShared::kFirstTile);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      BarrierInit(full + s, kMode == Mode::kDense ? kGroup : 2 * FillGroups(kMode) * kGroup);
      BarrierInit(empty + s, kConsumers / 32);
    }
    FenceBarrierInit();
  }
  LetSuccessorStart();
  WaitForPredecessor();
  if constexpr (kMode != Mode::kDense) {
    MakeConversion(reinterpret_cast<uint2*>(shared + GroupShared::kConversion));
    CountTiles(c, first_tile, reinterpret_cast<int*>(shared));
  }
  __syncthreads();

  const int group = int(threadIdx.x) / kGroup;
  if (group >= 2) {
    if constexpr (kMode == Mode::kDense) {
      GiveRegisters<40>();
      FillDense<kHalves>(c, maps, weights.w[0][0].scale, shared, info, full, empty);
    } else {
      GiveRegisters<48>();
      FillGrouped<kMode, kTable>(c, weights, out.references, first_tile, shared, info, full, empty);
    }
  } else {
    if constexpr (kMode == Mode::kDense) {
      TakeRegisters<232>();
    } else {
      TakeRegisters<208>();
    }
    const int column_tiles = (c.n_out + kWidth - 1) / kWidth;
    const int items = (kGrouped ? int(first_tile[c.experts]) : (c.n + kDenseM - 1) / kDenseM) * column_tiles;
    uint8_t* const staging = shared + S::kOut + group * kSliceBytes;
    constexpr int kSliceA = 64 * kTileK;
    Share share;
    if constexpr (kGrouped) {  // slices `group` and `group` + 2
      share = {group * kSliceA, 2 * kSliceA, S::kABytes, group * 64, 128, 0, {0, 1}};
    } else if constexpr (kHalves == 1) {
      share = {group * kSliceA, 0, S::kABytes, group * 64, 0, 1, {0, 0}};
    } else {
      share = {0, kSliceA, S::kABytes + group * kHalfBytes, 0, 64, 0, {group, group}};
    }
    RingPosition<kStages> ring;
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
      const Tile tile = kGrouped ? GroupTile(c, first_tile, item, column_tiles, kWidth) : DenseTile(c, item, kWidth);
      if constexpr (kSlices == 2) share.slices = max(0, (tile.rows - share.row + share.row_step - 1) / share.row_step);
      float acc[kSlices][64];
      MultiplyTile<kSlices, S::kStageBytes, kStages, kGrouped>(acc, shared, share, info, full, empty, ring);
#pragma unroll
      for (int s = 0; s < kSlices; ++s) {
        if (s >= share.slices) break;
        StageSlice(acc[s], staging);
        NamedBarrier(2 + group, kGroup);
        const int first = share.row + s * share.row_step, rows = tile.rows - first;
        const int column = tile.column + (!kGrouped && kHalves == 2 ? group * kHalfN : 0);
        __nv_bfloat16* y = static_cast<__nv_bfloat16*>(out.y) + (int64_t(tile.row) + first) * out.stride + column;
        if constexpr (kMode == Mode::kGate) {
          WriteGatedSlice(staging, out.gate, y, out.stride, tile.row + first, rows);
        } else {
          WriteSlice(staging, y, out.stride, rows, c.n_out - column);
        }
        NamedBarrier(2 + group, kGroup);
      }
    }
  }
}

// ---- references of E2M1 weights ----

// One block per 128 rows of a weight; a lane takes the four groups of one block of K, a warp 16 rows.
template <int kTable>
__global__ void __launch_bounds__(256)
    ReferenceKernel(const __grid_constant__ MatrixCall c, const __grid_constant__ GroupWeights<kTable> weights,
                    uint16_t* references) {
  __shared__ uint32_t high[8][32], low[8][32];
  const int row_block = blockIdx.x, e = blockIdx.y, set = blockIdx.z, warp = int(threadIdx.x) / 32,
            lane = int(threadIdx.x) % 32;
  LetSuccessorStart();
  WaitForPredecessor();
  if (c.offsets[e] == c.offsets[e + 1]) return;
  const int blocks = c.k / kTileK;
  const uint8_t* scale = weights.w[set][e].scale + (int64_t(row_block) * kHalfN + warp * 16) * (c.k / 32);
  for (int first = 0; first < blocks; first += 32) {
    const int block = min(first + lane, blocks - 1);
    uint32_t max = 0, min_ = 0xffffffffu;
#pragma unroll
    for (int r = 0; r < 16; ++r) {
      const uint32_t s = *reinterpret_cast<const uint32_t*>(scale + int64_t(r) * (c.k / 32) + block * 4);
      max = __vmaxu4(max, s);
      min_ = __vminu4(min_, s);
    }
    high[warp][lane] = max;
    low[warp][lane] = min_;
    __syncthreads();
    if (warp == 0 && first + lane < blocks) {
      for (int w = 1; w < 8; ++w) {
        max = __vmaxu4(max, high[w][lane]);
        min_ = __vminu4(min_, low[w][lane]);
      }
      uint32_t top = 0, bottom = 255;
      for (int i = 0; i < 32; i += 8) {
        top = umax(top, max >> i & 0xff);
        bottom = umin(bottom, min_ >> i & 0xff);
      }
      const uint32_t passes_before = (top - bottom) / kPassExponents;
      // NaN stays NaN when 6 is taken off the exponent.
      references[(int64_t(set * c.experts + e) * gridDim.x + row_block) * blocks + block] =
          uint16_t((top == 255 ? 261 : top) | passes_before << 9);
    }
    __syncthreads();
  }
}

// ---- launching ----

// A map of rows x bytes, in tiles of `tile` rows by 128 bytes, swizzled.
cudaError_t MakeMap(CUtensorMap* map, const void* data, int64_t rows, int64_t row_bytes, int64_t stride, int tile) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &found) !=
        cudaSuccess) {
      f = nullptr;
    }
    return reinterpret_cast<Encode>(f);
  }();
  if (!encode) return cudaErrorNotSupported;
  const cuuint64_t sizes[2] = {cuuint64_t(row_bytes), cuuint64_t(rows)}, strides[1] = {cuuint64_t(stride)};
  const cuuint32_t box[2] = {kTileK, cuuint32_t(tile)}, steps[2] = {1, 1};
  const CUresult r = encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(data), sizes, strides, box, steps,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return r == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <int kHalves>
cudaError_t StartDense(const Launch& launch, const MatrixCall& c, const MatrixWeight& w, const Output& out) {
  Maps maps;
  GroupWeights<1> weights = {};
  weights.w[0][0] = w;
  if (cudaError_t e = MakeMap(&maps.x, c.x, c.n, c.k, c.x_stride, kDenseM); e != cudaSuccess) return e;
  if (cudaError_t e = MakeMap(&maps.w, w.data, c.n_out, c.k, c.k, kHalves * kHalfN); e != cudaSuccess) return e;
  const int tiles = (c.n + kDenseM - 1) / kDenseM * ((c.n_out + kHalves * kHalfN - 1) / (kHalves * kHalfN));
  return Start(launch, MatrixKernel<Mode::kDense, kHalves, 1>, dim3(unsigned(std::min(tiles, launch.sms))),
               Threads(Mode::kDense), DenseLayout<kHalves>::kTotal, c, maps, weights, out);
}

template <Mode kMode>
cudaError_t StartGrouped(const Launch& launch, const MatrixCall& c, const MatrixWeight* w, const MatrixWeight* up,
                         Output out, void* workspace) {
  if (c.pairs == 0) return cudaSuccess;
  if (c.experts > kMatrixExperts || c.k > kMaxBlocks * kTileK) return cudaErrorInvalidValue;
  GroupWeights<kMatrixExperts> weights = {};
  for (int e = 0; e < c.experts; ++e) {
    weights.w[0][e] = w[e];
    if (up) weights.w[1][e] = up[e];
  }
  uint16_t* references = static_cast<uint16_t*>(workspace);
  out.references = references;
  const dim3 grid(unsigned(c.n_out / kHalfN), unsigned(c.experts), up ? 2 : 1);
  if (cudaError_t e = Start(launch, ReferenceKernel<kMatrixExperts>, grid, 256, 0, c, weights, references);
      e != cudaSuccess) {
    return e;
  }
  return Start(launch, MatrixKernel<kMode, 1, kMatrixExperts>, dim3(unsigned(launch.sms)), Threads(kMode),
               GroupShared::kTotal, c, Maps{}, weights, out);
}

}  // namespace

cudaError_t MatrixLinear(const Launch& launch, const MatrixCall& c, const MatrixWeight& w, void* y, int64_t y_stride) {
  if (c.n == 0) return cudaSuccess;
  const Output out{y, y_stride, {}, nullptr};
  // The narrow tile where the wide one would leave multiprocessors idle.
  const int wide = (c.n + kDenseM - 1) / kDenseM * ((c.n_out + 2 * kHalfN - 1) / (2 * kHalfN));
  return wide * 10 >= launch.sms * 9 ? StartDense<2>(launch, c, w, out) : StartDense<1>(launch, c, w, out);
}

int64_t GroupedMatrixWorkspace(const MatrixCall& c, int sets) {
  return int64_t(sets) * c.experts * (c.n_out / kHalfN) * (c.k / kTileK) * int64_t(sizeof(uint16_t));
}

cudaError_t GroupedMatrixLinear(const Launch& launch, const MatrixCall& c, const MatrixWeight* w, void* y,
                                void* workspace) {
  return StartGrouped<Mode::kGrouped>(launch, c, w, nullptr, Output{y, c.n_out, {}, nullptr}, workspace);
}

cudaError_t GroupedMatrixGate(const Launch& launch, const MatrixCall& c, const MatrixWeight* gate_weights,
                              const MatrixWeight* up, const MatrixGate& gate, void* y, void* workspace) {
  return StartGrouped<Mode::kGate>(launch, c, gate_weights, up, Output{y, c.n_out, gate, nullptr}, workspace);
}

}  // namespace vexil::cuda
