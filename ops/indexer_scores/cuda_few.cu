// IndexerScores of a few tokens on the tensor cores, for V4-Flash's indexer: 64 heads of 128 channels in BF16.
//
// Floor: the keys of each sequence once. Work: blocks of 4 warps take tiles of 32 entries of one token in turn, which
// come to shared memory three ahead. Warp i holds the queries of heads 16 i .. in registers, where they serve every
// tile, and multiplies all entries of the tile (mma.sync, f32 accumulators, channels in ascending groups of 32). A lane
// loads 16 bytes of a row at a time: which of the channels are multiplied by one instruction follows from that, the
// same for keys and queries.
//
// Heads are added per lane (heads 2 i, 2 i + 1, 8 + 2 i, 9 + 2 i of the warp), then over the 4 lanes at distances 1 and
// 2, then over warps in ascending order: for every entry the same, whatever the number of tokens.
#include <algorithm>

#include "ops/cuda/glue.h"
#include "ops/cuda/hopper.cuh"
#include "ops/indexer_scores/indexer_scores.h"

namespace vexil::gpu {
namespace {

constexpr int kHeads = 64, kWidth = 128;
constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kEntries = 32;         // per tile
constexpr int kBlocksPerSm = 5;      // as many as run at a time
constexpr int64_t kMaxTokens = 64;   // up to which tokens are taken for steps of a decode, which share no keys
constexpr int kLoads = kWidth / 32;  // of 16 bytes, per lane and row
constexpr int kTiles = kHeads / kWarps / 8;
constexpr int kStages = 4, kTileBytes = kEntries * kWidth * 2;

struct Call {
  Rows<const BF16> q, w, keys;
  Rows<const int32_t> block_table;
  const int32_t *seq, *count;
  int per_block;
  Rows<float> scores;
  int columns;
};

// max(x, 0) * w of two BF16 numbers: each product is rounded once.
__device__ inline uint32_t WeightedRelu(uint32_t x, uint32_t w) {
  uint32_t r;
  asm("{\n\t.reg .b32 p;\n\tmax.bf16x2 p, %1, %3;\n\tmul.rn.bf16x2 %0, p, %2;\n\t}" : "=r"(r) : "r"(x), "r"(w), "r"(0));
  return r;
}

__device__ inline uint4 Load16(const BF16* p) { return *reinterpret_cast<const uint4*>(p); }

// The part of head `warp`'s 16 in the scores of entries `row`, `row` + 8, +16, +24 of a tile.
struct Queries {
  uint4 q[kTiles][kLoads];
  uint32_t w[kTiles];  // of two heads
};

__device__ inline void Multiply(const Queries& heads, const uint4 (&keys)[4][kLoads], float (&sums)[4]) {
  float dots[2][kTiles][4] = {};
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const uint4 &low = keys[2 * m][i], &high = keys[2 * m + 1][i];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const uint4& q = heads.q[n][i];
        cuda::MmaBF16(dots[m][n], low.x, high.x, low.y, high.y, q.x, q.y);
        cuda::MmaBF16(dots[m][n], low.z, high.z, low.w, high.w, q.z, q.w);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const uint32_t products =
          WeightedRelu(cuda::PackBF16(dots[r / 2][n][r % 2 * 2], dots[r / 2][n][r % 2 * 2 + 1]), heads.w[n]);
      sum += cuda::BF16Low(products);
      sum += cuda::BF16High(products);
    }
    sum += ShuffleXor(sum, 1);
    sums[r] = sum + ShuffleXor(sum, 2);
  }
}

// Where 16 bytes of a tile lie: entry e, channels 8 u .. Two rows that lanes read together take different halves of 128
// bytes.
__device__ inline int TileOffset(int e, int u) { return e * kWidth * 2 + (u ^ (e & 1) * 4) * 16; }

// Starts copying the keys of tile `first` / kEntries, unless the token sees none of them. A tile lies in one page, so
// rows behind the last entry are there, whatever they hold.
__device__ inline void Fetch(const Call& c, const int32_t* pages, int first, int count, uint32_t tile) {
  if (first < count) {
    const BF16* keys = c.keys.at(int64_t(pages[first / c.per_block]) * c.per_block + first % c.per_block);
#pragma unroll
    for (int i = 0; i < kEntries * kWidth / 8 / kThreads; ++i) {
      const int piece = i * kThreads + int(threadIdx.x), e = piece / (kWidth / 8), u = piece % (kWidth / 8);
      cuda::CopyAsync16(tile + uint32_t(TileOffset(e, u)), keys + e * c.keys.stride + u * 8);
    }
  }
  cuda::CopyAsyncCommit();
}

__global__ void __launch_bounds__(kThreads) FewTokensKernel(const __grid_constant__ Call c) {
  BeginKernel();
  __shared__ __align__(128) uint8_t tiles[kStages][kTileBytes];
  __shared__ float partial[2][kWarps][kEntries];
  const int64_t t = blockIdx.y;
  const int row = Lane() / 4, quarter = Lane() % 4;
  const int count = c.count[t], step = int(gridDim.x) * kEntries;
  const int32_t* pages = c.block_table.at(c.seq[t]);
  int first = int(blockIdx.x) * kEntries;
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    Fetch(c, pages, first + s * step, count, cuda::SharedAddress(tiles[s]));
  }
  Queries heads;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int head = (Warp() * kTiles + n) * 8;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) heads.q[n][i] = Load16(c.q.at(t, head + row) + i * 32 + quarter * 8);
    const BF16* w = c.w.at(t) + head + quarter * 2;
    heads.w[n] = uint32_t(w[0].bits) | uint32_t(w[1].bits) << 16;
  }
  float* const scores = c.scores.at(t);
  int turn = 0;
  for (int stage = 0; first < c.columns; first += step, stage = (stage + 1) % kStages) {
    cuda::CopyAsyncWait<kStages - 2>();
    __syncthreads();  // the tile is there, and the one before it has been multiplied
    Fetch(c, pages, first + (kStages - 1) * step, count, cuda::SharedAddress(tiles[(stage + kStages - 1) % kStages]));
    const int column = first + Lane();
    if (first >= count) {
      if (Warp() == 0 && column < c.columns) scores[column] = -INFINITY;
      continue;
    }
    uint4 keys[4][kLoads];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        keys[r][i] = *reinterpret_cast<const uint4*>(tiles[stage] + TileOffset(row + 8 * r, 4 * i + quarter));
      }
    }
    float sums[4];
    Multiply(heads, keys, sums);
    if (quarter == 0) {
#pragma unroll
      for (int r = 0; r < 4; ++r) partial[turn][Warp()][row + 8 * r] = sums[r];
    }
    __syncthreads();
    if (Warp() == 0 && column < c.columns) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum += partial[turn][w][Lane()];
      scores[column] = column < count ? cuda::RoundToBF16(sum) : -INFINITY;
    }
    turn ^= 1;
  }
}

}  // namespace

Support IndexerScoresFewSupports(const Context& ctx, const IndexerScores::Args& a) {
  VX_REQUIRE(IsHopper(ctx), "needs a Hopper GPU");
  VX_REQUIRE(a.q.dtype() == DType::kBF16, "q must be BF16");
  VX_REQUIRE(a.q.dim(1) == kHeads && a.q.dim(2) == kWidth, "needs 64 heads of 128 channels");
  VX_REQUIRE(a.q.dim(0) <= kMaxTokens, "more than 64 tokens");
  VX_REQUIRE(a.entries_per_block % kEntries == 0, "pages of other than a multiple of 32 entries");
  VX_REQUIRE(Fits16Bytes(a.q) && Fits16Bytes(a.keys), "rows are not aligned to 16 bytes");
  return {};
}

Status IndexerScoresFew(const Context& ctx, const IndexerScores::Args& a) {
  const int64_t n = a.q.dim(0), columns = a.scores.dim(1);
  if (n == 0 || columns == 0) return {};
  const int64_t tiles = Blocks(columns, kEntries);
  // No more blocks than run at a time, or some would begin when the others are done.
  const int64_t most = std::max<int64_t>(1, int64_t(ctx.accelerator->caps().multiprocessors) * kBlocksPerSm / n);
  const dim3 grid(unsigned(std::min(tiles, most)), unsigned(n));
  const Call call{RowsOf<BF16>(a.q),
                  RowsOf<BF16>(a.w),
                  RowsOf<BF16>(a.keys),
                  RowsOf<int32_t>(a.block_table),
                  DataOf<int32_t>(a.seq),
                  DataOf<int32_t>(a.count),
                  int(a.entries_per_block),
                  MutRowsOf<float>(a.scores),
                  int(columns)};
  Launch(ctx, FewTokensKernel, grid, kThreads, 0, call);
  return Launched(IndexerScores::kName);
}

}  // namespace vexil::gpu
