// Floor: 2 n N K operations at the FP8 rate of the tensor cores (with block scales about 1150 TFLOP/s were measured on
// an H200 with a vendor library).
//
// Work: a block stays on its multiprocessor and takes tiles, whose operands travel through a ring of stages, 128 values
// of K each. Two warpgroups multiply, others fill the ring.
// Dense: tiles of 128 rows of x by 128 or 256 of the weight; tensor copies started by one warpgroup; a multiplying
// warpgroup has 64 rows of the narrow tile, or 128 columns of the wide one (as two slices of 64 rows).
// Groups: tiles of 256 rows of x (mostly all of an expert's) by 128 of the weight, or 64 of gate and 64 of up; two
// warpgroups convert E2M1 weights, each once per tile; the multiplying warpgroups take turns at the slices of 64 rows,
// and slices without rows cost nothing. Rows of x that pairs pick are first copied to the order of the pairs, so that
// tensor copies can fetch them: K bytes per pair, and the converting threads keep their registers for the codes.
//
// Types: E4M3 products; the tensor core adds the 128 products of a block at its own precision (about 14 bits below the
// largest product); block sums times their two scales are added in f32, ascending. One rounding to BF16.
//
// E2M1 in E4M3: a group of 32 weights has the scale 2^s. Relative to a reference exponent r of its block of 128 x 128
// weights, E4M3 holds the group's values exactly when -8 <= s - r <= 6. Blocks with a wider range are taken in several
// passes, each with a lower reference and zeros for the groups that belong to other passes.
#include <algorithm>

#include "ops/cuda/tensor_map.h"
#include "ops/linear/cuda_matrix_fill.cuh"

namespace vexil::cuda {
namespace {

// ---- multiplying ----

// What a multiplying warpgroup makes of a tile: slices of 64 rows, `a_step` bytes apart, by 128 columns.
struct Share {
  int a_offset, a_step, b_offset;  // in a stage
  int row, row_step;               // of the slices in the tile
  int slices;
  int w_scale[2];  // which scales belong to its columns 0 .. 63 and 64 .. 127
};

// acc[s] = products of slice s.
template <int kSlices, int kStageBytes, int kStages>
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
      BarrierInit(full + s, kMode == Mode::kDense ? kGroup : FillGroups(kMode) * kGroup / 32 + 1);
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
      GiveRegisters<40>();
      FillGrouped<kMode, kTable>(c, maps.x, weights, out.references, first_tile, shared, info, full, empty);
    }
  } else {
    if constexpr (kMode == Mode::kDense) {
      TakeRegisters<232>();
    } else {
      TakeRegisters<216>();
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
      MultiplyTile<kSlices, S::kStageBytes, kStages>(acc, shared, share, info, full, empty, ring);
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

// sorted[p] = x[rows[p]]: a block per pair.
__global__ void __launch_bounds__(128) SortRowsKernel(const __grid_constant__ MatrixCall c, uint8_t* sorted) {
  LetSuccessorStart();
  WaitForPredecessor();
  const int64_t pair = blockIdx.x;
  const uint4* const from = reinterpret_cast<const uint4*>(c.x + c.rows[pair] * c.x_stride);
  uint4* const to = reinterpret_cast<uint4*>(sorted + pair * c.k);
  for (int i = int(threadIdx.x); i < c.k / 16; i += 128) to[i] = from[i];
}

// ---- launching ----

template <int kHalves>
cudaError_t StartDense(const Launch& launch, const MatrixCall& c, const MatrixWeight& w, const Output& out) {
  Maps maps;
  GroupWeights<1> weights = {};
  weights.w[0][0] = w;
  if (cudaError_t e = MakeTileMap(&maps.x, c.x, c.n, c.k, c.x_stride, kDenseM); e != cudaSuccess) return e;
  if (cudaError_t e = MakeTileMap(&maps.w, w.data, c.n_out, c.k, c.k, kHalves * kHalfN); e != cudaSuccess) return e;
  const int tiles = (c.n + kDenseM - 1) / kDenseM * ((c.n_out + kHalves * kHalfN - 1) / (kHalves * kHalfN));
  return Start(launch, MatrixKernel<Mode::kDense, kHalves, 1>, dim3(unsigned(std::min(tiles, launch.sms))),
               Threads(Mode::kDense), DenseLayout<kHalves>::kTotal, c, maps, weights, out);
}

int64_t ReferenceBytes(const MatrixCall& c, int sets) {
  const int64_t bytes = int64_t(sets) * c.experts * (c.n_out / kHalfN) * (c.k / kTileK) * int64_t(sizeof(uint16_t));
  return (bytes + 255) / 256 * 256;
}

// Workspace: the references of `sets` weights per expert, then the rows of x in the order of the pairs.
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
  const int sets = up ? 2 : 1;
  uint16_t* references = static_cast<uint16_t*>(workspace);
  out.references = references;
  const dim3 grid(unsigned(c.n_out / kHalfN), unsigned(c.experts), unsigned(sets));
  if (cudaError_t e = Start(launch, ReferenceKernel<kMatrixExperts>, grid, 256, 0, c, weights, references);
      e != cudaSuccess) {
    return e;
  }
  const uint8_t* x = c.x;
  int64_t stride = c.x_stride;
  if (c.rows) {
    uint8_t* const sorted = static_cast<uint8_t*>(workspace) + ReferenceBytes(c, sets);
    if (cudaError_t e = Start(launch, SortRowsKernel, dim3(unsigned(c.pairs)), 128, 0, c, sorted); e != cudaSuccess)
      return e;
    x = sorted;
    stride = c.k;
  }
  Maps maps = {};
  if (cudaError_t e = MakeTileMap(&maps.x, x, c.pairs, c.k, stride, kSliceRows); e != cudaSuccess) return e;
  return Start(launch, MatrixKernel<kMode, 1, kMatrixExperts>, dim3(unsigned(launch.sms)), Threads(kMode),
               GroupShared::kTotal, c, maps, weights, out);
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
  return ReferenceBytes(c, sets) + (c.rows ? int64_t(c.pairs) * c.k : 0);
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
