// How cuda_matrix.cu cuts its work into tiles and lays out shared memory. Included by its parts only.
#pragma once

#include <cuda.h>

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
constexpr int kSliceRows = 64;  // of x, that a multiplying warpgroup takes at a time

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
// A group call also holds the conversion table, where the tile's weights lie, their references, and the first tile of
// every expert.
struct GroupShared {
  static constexpr int kFetch = (GroupLayout::kTotal + 15) / 16 * 16;
  static constexpr int kConversion = kFetch + kFetchSlots * kFetchBytes;
  static constexpr int kTileWeights = kConversion + (kPassExponents + 1) * 8;
  static constexpr int kReferences = kTileWeights + 4 * 8;
  static constexpr int kFirstTile = kReferences + 2 * kMaxBlocks * 2;
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

// 2^(e - 127) for any e of a reference, which may be below the least scale: then it is a subnormal, or nothing.
__device__ inline float ScaleFromExponent(int e) {
  return __uint_as_float(e >= 255 ? 0x7fc00000u : e >= 1 ? uint32_t(e) << 23 : e >= -22 ? 1u << (22 + e) : 0);
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

}  // namespace
}  // namespace vexil::cuda
