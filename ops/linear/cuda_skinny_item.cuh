// A block's work in cuda_skinny.cu and cuda_experts.cu: items, which are a tile of rows of a weight (or of gate and up)
// times a chunk of rows of x. Some warps fill the ring of stages with an item's weights, the others multiply.
#pragma once

#include "ops/linear/cuda_skinny_multiply.cuh"

namespace vexil::cuda {
namespace {

// Rows [first, first + count) of x and y that share a pass over a weight, all of one expert or part.
struct Chunk {
  int expert, first, count;
};

// How an item is cut: kSets tiles of kTileRows rows each, of gate and up or neighbours of one weight. A gate with one
// tile has rows of gate and rows of up in its halves.
template <SkinnyWeight F, int kTileRows_, int kSets_, bool kGate_>
struct Shape {
  static constexpr SkinnyWeight kWeight = F;
  static constexpr int kTileRows = kTileRows_, kSets = kSets_;
  static constexpr bool kGate = kGate_;
  static constexpr bool kPaired = kGate && kSets == 1;
  static constexpr int kTileOut = kPaired ? kTileRows / 2 : kTileRows;    // columns of y that a tile makes
  static constexpr int kItemRows = kGate ? kTileOut : kSets * kTileRows;  // columns of y that an item makes
};

// The stages in shared memory; fillers and multipliers each keep a copy and go round in step.
template <int kStages_, int kStageSize>
struct Ring {
  static constexpr int kStages = kStages_;
  uint8_t* stages;
  uint64_t *full, *empty;
  RingPosition<kStages> at = {};

  __device__ uint8_t* stage() const { return stages + at.stage * kStageSize; }
  // By one thread, before all others may use it.
  __device__ void Init() const {
    for (int s = 0; s < kStages; ++s) {
      BarrierInit(full + s, 1);
      BarrierInit(empty + s, kWarps);
    }
    FenceBarrierInit();
  }
};

__device__ inline int RowBytes(SkinnyWeight f, int k) { return k / ElementsPerWarp(f) * kWarpBytes; }
__device__ inline int StepsOf(int row_bytes) { return (row_bytes + kStageBytes - 1) / kStageBytes; }

// Fills the ring with rows row0 ... of the item's weights, by kFillWarps warps. `up` is the weight of the second set of
// a gate.
template <class S, class R>
__device__ inline void FillItem(const SkinnyMatrix& weight, const SkinnyMatrix& up, int row0, int n_out, int k,
                                uint64_t policy, R& ring) {
  constexpr SkinnyWeight F = S::kWeight;
  constexpr int kTileRows = S::kTileRows;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, row_bytes = RowBytes(F, k),
            steps = StepsOf(row_bytes), scales_per_row = k / 32;
  for (int step = 0; step < S::kSets * steps; ++step) {
    const int set = step / steps, at = (step - set * steps) * kStageBytes, bytes = min(kStageBytes, row_bytes - at);
    constexpr int kShare = kTileRows / kFillWarps;
    const int r = (warp - kWarps) * kShare + lane % kShare, own = S::kPaired ? r % S::kTileOut : r;
    const SkinnyMatrix& w = S::kGate && (set || r != own) ? up : weight;
    const int first = row0 + (S::kGate ? 0 : set * kTileRows);
    const int rows = max(0, min(S::kTileOut, n_out - first));
    BarrierWait(ring.empty + ring.at.stage, ring.at.parity ^ 1);
    const uint32_t stage = SharedAddress(ring.stage());
    uint64_t* const bar = ring.full + ring.at.stage;
    if (threadIdx.x == kConsumers) {
      BarrierArriveExpect(
          bar, uint32_t(rows * (kTileRows / S::kTileOut) * (F == SkinnyWeight::kE2M1 ? bytes + bytes / 16 : bytes)));
    }
    if (lane < kShare && own < rows) {
      BulkCopy(stage + r * kPitch, static_cast<const uint8_t*>(w.data) + int64_t(first + own) * row_bytes + at,
               uint32_t(bytes), bar, policy);
    } else if (F == SkinnyWeight::kE2M1 && lane < 2 * kShare && own < rows) {
      BulkCopy(stage + kTileRows * kPitch + r * kScalePitch,
               static_cast<const uint8_t*>(w.scale) + int64_t(first + own) * scales_per_row + at / 16,
               uint32_t(bytes / 16), bar, policy);
    }
    ring.at.Next();
  }
}

// The item's products by kWarps warps: each gets its share of K. `x` and `x_scale` hold the chunk (StageInput).
template <class S, SkinnyInput I, int kNTiles, class R>
__device__ inline void MultiplyItem(const SkinnyCall& c, const SkinnyMatrix& weight, const SkinnyMatrix& up, int row0,
                                    int count, const uint8_t* x, const float* x_scale, R& ring,
                                    float (&acc)[S::kSets][kNTiles][4]) {
  constexpr SkinnyWeight F = S::kWeight;
  constexpr int kTileRows = S::kTileRows;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int pitch = 2 * c.k + kRowPad, blocks = c.k / 128, row_bytes = RowBytes(F, c.k), steps = StepsOf(row_bytes);
  // E4M3: the scales of the warp's block in a step, read a step ahead to hide their latency.
  uint8_t scale_low = 0, scale_high = 0;
  const auto load_scales = [&](int set, int step) {
    const int low = row0 + (S::kGate ? 0 : set * kTileRows) + g, high = S::kPaired ? low : low + 8;
    const int piece = step * kWarps + warp;
    if (set == S::kSets || piece >= blocks) return;
    const auto scale = [&](const SkinnyMatrix& w, int row) {
      return static_cast<const uint8_t*>(w.scale)[int64_t(min(row, c.n_out - 1) / c.scale_rows) * blocks + piece];
    };
    scale_low = scale(S::kGate && set ? up : weight, low);
    scale_high = scale(S::kGate && (set || S::kPaired) ? up : weight, high);
  };
  if (F == SkinnyWeight::kE4M3) load_scales(0, 0);
#pragma unroll
  for (int set = 0; set < S::kSets; ++set) {
    const SkinnyMatrix& w = S::kGate && set ? up : weight;
    const int first_row = row0 + (S::kGate ? 0 : set * kTileRows) + g;
    const int row_low = min(first_row, c.n_out - 1), row_high = min(first_row + 8, c.n_out - 1);
    for (int step = 0; step < steps; ++step) {
      const int piece = step * kWarps + warp;  // of the row: the warp's
      const bool mine = piece * kWarpBytes < row_bytes;
      Operands<kNTiles> o;
      if (F == SkinnyWeight::kE4M3) {
        o.scale_low = F32FromE8M0(scale_low);
        o.scale_high = F32FromE8M0(scale_high);
        step + 1 < steps ? load_scales(set, step + 1) : load_scales(set + 1, 0);
      } else if (F == SkinnyWeight::kI8) {
        o.scale_low = static_cast<const float*>(w.scale)[row_low];
        o.scale_high = static_cast<const float*>(w.scale)[row_high];
      }
#pragma unroll
      for (int nt = 0; nt < kNTiles; ++nt) {
        // Columns beyond the chunk repeat its last row; nobody reads their sums.
        o.x[nt] = x + min(nt * 8 + g, count - 1) * pitch + piece * ElementsPerWarp(F) * 2 + t * 16;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          o.x_scale[nt][i] = x_scale + min(nt * 8 + 2 * t + i, count - 1) * blocks + piece * ElementsPerWarp(F) / 128;
        }
      }
      BarrierWait(ring.full + ring.at.stage, ring.at.parity);
      if (mine) {
        const uint8_t* stage = ring.stage();
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
      if (lane == 0) BarrierArrive(ring.empty + ring.at.stage);
      ring.at.Next();
    }
  }
}

// What the rows of y that this thread stores are multiplied by, from row `first` on: read once per chunk, not per item.
template <class S>
__device__ inline float RowWeight(const SkinnyGate& gate, int first, int count) {
  const int r = int(threadIdx.x) / S::kTileOut;
  if (!S::kGate || gate.row_weight == nullptr || r >= count) return 1.0f;
  return gate.row_weight[gate.row_index ? gate.row_index[first + r] : first + r];
}

// Adds the warps' sums of an item by way of `sums`, which nobody reads any more, and writes y from row `first` and
// `column` on.
template <class S, int kNTiles>
__device__ inline void StoreItem(const SkinnyCall& c, float limit, float weight,
                                 const float (&acc)[S::kSets][kNTiles][4], float* sums, int first, int count, int row0,
                                 int64_t column) {
  constexpr int kTileRows = S::kTileRows, kTileSums = kTileRows * kSumPitch, kWarpSums = S::kSets * kNTiles * kTileSums;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int set = 0; set < S::kSets; ++set) {
#pragma unroll
    for (int nt = 0; nt < kNTiles; ++nt) {
      float* to = sums + warp * kWarpSums + (set * kNTiles + nt) * kTileSums;
#pragma unroll
      for (int i = 0; i < kTileRows / 4; ++i) to[(g + i / 2 * 8) * kSumPitch + 2 * t + i % 2] = acc[set][nt][i];
    }
  }
  NamedBarrier<1, kConsumers>();
  const int row = int(threadIdx.x) % S::kTileOut, r = int(threadIdx.x) / S::kTileOut;
  if (r >= count || row0 + row >= c.n_out) return;
  constexpr int kValues = S::kPaired ? 2 : S::kSets;
  float value[kValues];
#pragma unroll
  for (int set = 0; set < kValues; ++set) {
    const float* from =
        sums + r / 8 * kTileSums + r % 8 +
        (S::kPaired ? (row + set * S::kTileOut) * kSumPitch : set * kNTiles * kTileSums + row * kSumPitch);
    value[set] = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) value[set] += from[w * kWarpSums];
    // An infinite group scale stands for the NaN of E8M0.
    if (S::kWeight == SkinnyWeight::kE2M1 && isinf(value[set])) value[set] = __uint_as_float(0x7fc00000u);
  }
  const int64_t p = first + r, at = p * c.y_stride + column + row0 + row;
  if constexpr (S::kGate) {
    if (!(limit > 0)) limit = __uint_as_float(0x7f800000u);
    const float a = RoundToBF16(value[0]), b = RoundToBF16(value[1]);
    const float clamped = a > limit ? limit : a, up = b > limit ? limit : b < -limit ? -limit : b;
    static_cast<__nv_bfloat16*>(c.y)[at] = __float2bfloat16_rn(clamped / (1.0f + expf(-clamped)) * up * weight);
  } else {
#pragma unroll
    for (int set = 0; set < S::kSets; ++set) {
      if (row0 + set * kTileRows + row >= c.n_out) break;
      if (c.y_f32) {
        static_cast<float*>(c.y)[at + set * kTileRows] = value[set];
      } else {
        static_cast<__nv_bfloat16*>(c.y)[at + set * kTileRows] = __float2bfloat16_rn(value[set]);
      }
    }
  }
}

// The rows of x in a pass over an expert's weight. Four leave room for two blocks on a multiprocessor.
inline int GroupChunkRows(const SkinnyCall& c) {
  const int rows = c.n < 4 ? c.n : c.pairs <= 3 * c.experts ? 4 : 8;
  return c.pairs / rows + c.experts <= kSkinnyChunks ? rows : 8;
}

// The list of chunks of a group call, one word each (expert in the low byte), and their number, by the multiplying
// warps of the block. Every block makes the whole list.
__device__ inline void ListChunks(const SkinnyCall& c, int rows, uint32_t* list, int* number, int* scratch) {
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
  NamedBarrier<1, kConsumers>();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w < e / 32) before += scratch[w];
  }
  if (e == kConsumers - 1) *number = before;
  before -= mine;
  for (int i = 0; i < mine; ++i) list[before + i] = uint32_t(first + i * rows) << 8 | uint32_t(e);
  NamedBarrier<1, kConsumers>();
}
__device__ inline Chunk ListedChunk(const SkinnyCall& c, int rows, uint32_t word) {
  const int e = int(word & 0xff), first = int(word >> 8);
  return {e, first, min(rows, c.offsets[e + 1] - first)};
}

}  // namespace
}  // namespace vexil::cuda
