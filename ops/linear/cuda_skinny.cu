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

#include "ops/linear/cuda_skinny_multiply.cuh"

namespace vexil::cuda {
namespace {

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
