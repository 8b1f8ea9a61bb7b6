// Many tokens on the BF16 tensor cores of Hopper. Floor: 2 * 64 * 128 operations per token and entry that it may see.
//
// Work: a block of threads takes 8 tokens, whose queries stay in shared memory, and a range of entries, which travel
// through a ring of stages, 64 keys each. Two warpgroups multiply: [64 keys x 128] by the heads of two tokens at a
// time, each its own 4 tokens. A block with tokens of several sequences does
// all of it for each of them.
//
// Types: dot products of BF16 in f32, rounded to BF16 with the relu in one instruction; products with the head weights
// in BF16; the tensor core adds them over the heads in f32, 16 at a time, ascending, by a product with ones.
#include <algorithm>

#include "ops/cuda/glue.h"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/tensor_map.h"
#include "ops/cuda/wgmma_bf16.cuh"
#include "ops/indexer_scores/indexer_scores.h"

namespace vexil::gpu {
namespace {

using namespace cuda;

constexpr int64_t kFewTokens = 16;  // below, a block per token is faster
constexpr int kHeads = 64, kWidth = 128;
constexpr int kTokens = 8;                   // of a block
constexpr int kGroupTokens = 4, kPairs = 2;  // of a warpgroup
constexpr int kKeys = 64;                    // of a stage
constexpr int kGroup = 128, kConsumers = 2 * kGroup, kThreads = 3 * kGroup;
constexpr int kHalf = 64, kHalfBytes = 2 * kHalf;   // channels of a swizzled tile
constexpr int kPairTile = 2 * kHeads * kHalfBytes;  // half of the channels of two tokens' queries
constexpr int kKeyTile = kKeys * kHalfBytes, kStageBytes = 2 * kKeyTile;
constexpr int kStages = 4;

struct Shared {
  static constexpr int kQueries = 0;  // [pair][half]
  static constexpr int kRing = kTokens / 2 * 2 * kPairTile;
  static constexpr int kSeq = kRing + kStages * kStageBytes, kCount = kSeq + kTokens * 4;
  static constexpr int kBarriers = kCount + kTokens * 4;
  static constexpr int kTotal = kBarriers + (2 * kStages + 1) * 8;
};

struct ScoresCall {
  Rows<const BF16> w;
  const int32_t *seq, *count;
  Rows<const int32_t> block_table;
  Rows<float> scores;
  int n, columns, per_block;
  int range;  // entries of a block
};

// Consecutive tokens of the block with one sequence, and how many key tiles of the block's range they need.
struct Run {
  int begin, end, tiles;
};
__device__ inline Run RunAt(const int* seq, const int* count, int begin, int tokens, int first_key, int last_key) {
  int end = begin, limit = 0;
  while (end < tokens && seq[end] == seq[begin]) limit = max(limit, count[end++]);
  return {begin, end, max(0, (min(limit, last_key) - first_key + kKeys - 1) / kKeys)};
}

// Sums over the heads of both tokens of a pair, for the thread's keys: its row r = lane / 4 and r + 8 of the 16 of its
// warp. All four lanes of a row get them.
__device__ inline void AddHeads(const float (&dot)[64], const uint32_t (&weight)[16], float (&sum)[2][2]) {
  constexpr uint32_t kOnes = 0x3f803f80u;
#pragma unroll
  for (int token = 0; token < 2; ++token) {
    float total[4] = {};
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      uint32_t product[4];
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        const int j = token * 8 + i + v / 2, at = 4 * j + v % 2 * 2;
        uint32_t rounded;
        asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(rounded) : "f"(dot[at + 1]), "f"(dot[at]));
        asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product[v]) : "r"(rounded), "r"(weight[j]));
      }
      MmaBF16(total, product[0], product[1], product[2], product[3], kOnes, kOnes);
    }
    sum[token][0] = total[0];
    sum[token][1] = total[2];
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    ManyScoresKernel(const __grid_constant__ ScoresCall c, const __grid_constant__ CUtensorMap queries,
                     const __grid_constant__ CUtensorMap keys) {
  extern __shared__ __align__(1024) uint8_t shared[];
  int* const seq = reinterpret_cast<int*>(shared + Shared::kSeq);
  int* const count = reinterpret_cast<int*>(shared + Shared::kCount);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + Shared::kBarriers);
  uint64_t* const empty = full + kStages;
  uint64_t* const queries_there = empty + kStages;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      BarrierInit(full + s, 1);
      BarrierInit(empty + s, kConsumers / 32);
    }
    BarrierInit(queries_there, 1);
    FenceBarrierInit();
  }
  BeginKernel();
  // Later tokens see more entries: they go first.
  const int token0 = int(gridDim.x - 1 - blockIdx.x) * kTokens, tokens = min(kTokens, c.n - token0);
  const int first_key = int(blockIdx.y) * c.range, last_key = min(first_key + c.range, c.columns);
  if (int(threadIdx.x) < tokens) {
    seq[threadIdx.x] = c.seq[token0 + threadIdx.x];
    count[threadIdx.x] = c.count[token0 + threadIdx.x];
  }
  __syncthreads();
  RingPosition<kStages> ring;
  const int group = int(threadIdx.x) / kGroup;
  if (group == 2) {
    GiveRegisters<40>();
    if (threadIdx.x != kConsumers) return;
    BarrierArriveExpect(queries_there, kTokens / 2 * 2 * kPairTile);
    for (int i = 0; i < kTokens; ++i) {
      TensorCopy2D(shared + i * kPairTile, &queries, i % 2 * kHalfBytes, (token0 + i / 2 * 2) * kHeads, queries_there);
    }
    for (int begin = 0; begin < tokens;) {
      const Run run = RunAt(seq, count, begin, tokens, first_key, last_key);
      const int32_t* pages = c.block_table.at(seq[begin]);
      for (int tile = 0; tile < run.tiles; ++tile) {
        const int key = first_key + tile * kKeys;
        const int row = pages[key / c.per_block] * c.per_block + key % c.per_block;
        BarrierWait(empty + ring.stage, ring.parity ^ 1);
        uint8_t* const stage = shared + Shared::kRing + ring.stage * kStageBytes;
        BarrierArriveExpect(full + ring.stage, kStageBytes);
        TensorCopy2D(stage, &keys, 0, row, full + ring.stage);
        TensorCopy2D(stage + kKeyTile, &keys, kHalfBytes, row, full + ring.stage);
        ring.Next();
      }
      begin = run.end;
    }
    return;
  }
  TakeRegisters<232>();
  const int lane = int(threadIdx.x) % 32, quarter = lane % 4;
  const int key_of_thread = int(threadIdx.x) % kGroup / 32 * 16 + lane / 4 + quarter % 2 * 8;
  uint32_t weight[kPairs][16];  // of heads 8 j + 2 quarter and the next, of both tokens
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const int token = min(token0 + group * kGroupTokens + 2 * p + j / 8, c.n - 1);
      const BF16* w = c.w.at(token) + j % 8 * 8 + quarter * 2;
      weight[p][j] = w[0].bits | uint32_t(w[1].bits) << 16;
    }
  }
  BarrierWait(queries_there, 0);
  for (int begin = 0; begin < tokens;) {
    const Run run = RunAt(seq, count, begin, tokens, first_key, last_key);
    for (int tile = 0; tile < run.tiles; ++tile) {
      BarrierWait(full + ring.stage, ring.parity);
      float dot[kPairs][64];
      WarpgroupFence();
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint64_t a = SwizzledTile(shared + Shared::kRing + ring.stage * kStageBytes + half * kKeyTile);
          const uint64_t b = SwizzledTile(shared + ((group * kPairs + p) * 2 + half) * kPairTile);
#pragma unroll
          for (int k = 0; k < kHalf / 16; ++k) WgmmaBF16(dot[p], a + 2 * k, b + 2 * k, half + k > 0);
        }
        WarpgroupCommit();
      }
      const auto store = [&](int p) {
        float sum[2][2];
        AddHeads(dot[p], weight[p], sum);
        const int token = group * kGroupTokens + 2 * p + quarter / 2, key = first_key + tile * kKeys + key_of_thread;
        const float first = quarter % 2 ? sum[0][1] : sum[0][0], second = quarter % 2 ? sum[1][1] : sum[1][0];
        const float total = quarter < 2 ? first : second;
        if (token >= run.begin && token < run.end && key < last_key) {
          c.scores.at(token0 + token)[key] = key < count[token] ? RoundToBF16(total) : -INFINITY;
        }
      };
      WarpgroupWait<1>();
      store(0);
      WarpgroupWait<0>();
      if (lane == 0) BarrierArrive(empty + ring.stage);
      ring.Next();
      store(1);
    }
    for (int token = run.begin; token < run.end; ++token) {
      for (int key = first_key + run.tiles * kKeys + int(threadIdx.x); key < last_key; key += kConsumers) {
        c.scores.at(token0 + token)[key] = -INFINITY;
      }
    }
    begin = run.end;
  }
}

// Entries of a block: few enough that all multiprocessors have work, and many enough that loading queries does not
// count.
int RangeOf(const Context& ctx, int64_t token_blocks, int64_t columns) {
  const int64_t ranges = std::max<int64_t>(1, 3 * ctx.accelerator->caps().multiprocessors / token_blocks);
  const int64_t range = std::clamp<int64_t>((columns + ranges - 1) / ranges, 512, 4096);
  return int((range + kKeys - 1) / kKeys * kKeys);
}

}  // namespace

Support IndexerScoresManySupports(const Context& ctx, const IndexerScores::Args& a) {
  VX_REQUIRE(IsHopper(ctx), "needs a Hopper GPU");
  VX_REQUIRE(a.q.dim(0) >= kFewTokens, "few tokens");
  VX_REQUIRE(a.q.dtype() == DType::kBF16 && a.q.dim(1) == kHeads && a.q.dim(2) == kWidth,
             "takes 64 heads of 128 in BF16");
  VX_REQUIRE(a.q.stride(0) == kHeads * a.q.stride(1), "tokens of q are not one after the other");
  VX_REQUIRE(a.entries_per_block % kKeys == 0, "blocks are no multiple of 64 entries");
  VX_REQUIRE(Fits16Bytes(a.q) && Fits16Bytes(a.keys), "operands are not aligned to 16 bytes");
  return {};
}

Status IndexerScoresMany(const Context& ctx, const IndexerScores::Args& a) {
  const int64_t n = a.q.dim(0), columns = a.scores.dim(1), token_blocks = (n + kTokens - 1) / kTokens;
  if (columns == 0) return {};
  CUtensorMap queries, keys;
  VX_TRY(Issued(IndexerScores::kName,
                MakeTileMap(&queries, a.q.raw(), n * kHeads, kWidth * 2, a.q.stride(1) * 2, 2 * kHeads)));
  VX_TRY(Issued(IndexerScores::kName,
                MakeTileMap(&keys, a.keys.raw(), a.keys.dim(0), kWidth * 2, a.keys.stride(0) * 2, kKeys)));
  const ScoresCall call{.w = RowsOf<BF16>(a.w),
                        .seq = DataOf<int32_t>(a.seq),
                        .count = DataOf<int32_t>(a.count),
                        .block_table = RowsOf<int32_t>(a.block_table),
                        .scores = MutRowsOf<float>(a.scores),
                        .n = int(n),
                        .columns = int(columns),
                        .per_block = int(a.entries_per_block),
                        .range = RangeOf(ctx, token_blocks, columns)};
  const dim3 grid(unsigned(token_blocks), Blocks(columns, call.range));
  return Issued(IndexerScores::kName,
                Start(LaunchOf(ctx), ManyScoresKernel, grid, kThreads, Shared::kTotal, call, queries, keys));
}

}  // namespace vexil::gpu
