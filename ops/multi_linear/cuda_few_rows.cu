// Floor: every byte of the weights once, at the rate at which memory reads.
//
// Work: each format has blocks in proportion to its bytes, and each of them takes as many neighbouring rows of the
// format's weights as any other, which may end one part and begin the next. Within a block some warps fill a ring of
// stages, 16 rows x 1024 bytes each, and 8 warps multiply, each 128 bytes of every row of a stage, as in
// cuda_skinny.cu. The filling warps do not wait for the kernel before this one, because weights are constant.
//
// Bits: a warp's pieces of a row are added in ascending order, the 8 warps last. So an element's sum depends on K and
// on the formats alone, neither on the rows that share its tile nor on the parts of the call, and is that of
// cuda_skinny.cu.
//
// Latency is what remains above the floor: a step of a tile takes some 0.3 us, most of it waiting. So tiles are as tall
// as the instruction allows, and what a step needs besides its stage is fetched a step ahead.
#include <algorithm>

#include "ops/linear/cuda_skinny_multiply.cuh"
#include "ops/multi_linear/cuda_few_rows.h"

namespace vexil::cuda {
namespace {

constexpr int kTileRows = 16, kStageSize = kTileRows * kPitch;

// Two blocks to a multiprocessor, where their memory fits, hide each other's barriers. With one, two can land on the
// multiprocessor where the predecessor's blocks ended first, while another is idle.
constexpr int kBlocksPerSm = 2;
constexpr int Fillers(int sets) { return 2 * sets; }  // warps that fill the ring
constexpr int Threads(int sets) { return kConsumers + 32 * Fillers(sets); }
constexpr int kRingStages = 4;

// Who does what. Parts are sorted by format.
struct Split {
  int chunk_rows, chunks;                // of x
  int first_block[kFewRowsFormats + 1];  // of each format
  int first_part[kFewRowsFormats + 1];
  int rows[kFewRowsFormats];     // of the weights of all parts of the format
  int first_row[kFewRowsParts];  // of a part's weight among those
};

// Shared memory: the ring, partial sums (two buffers), barriers, scales of x, rows of x.
struct SharedLayout {
  int sums, barriers, x_scale, x, total;
  __host__ __device__ SharedLayout(int sets, int n_tiles, int rows, int k) {
    sums = kRingStages * kStageSize;
    barriers = sums + 2 * kWarps * sets * n_tiles * kTileRows * kSumPitch * int(sizeof(float));
    x_scale = barriers + 2 * kRingStages * int(sizeof(uint64_t));
    x = x_scale + (rows * (k / 128) * int(sizeof(float)) + 15) / 16 * 16;
    total = x + rows * (2 * k + kRowPad);
  }
};

// Rows [first, first + count) of the weight of a part, for a chunk of the rows of x.
struct Tile {
  int chunk, part, first, count;
};

// What a block does: rows [begin, end) of its format's, which stand in a line, once for each chunk of x.
struct Share {
  FewRowsFormat format;
  int begin, end;
};
__device__ inline Share ShareOfBlock(const Split& s) {
  int f = 0;
  while (int(blockIdx.x) >= s.first_block[f + 1]) ++f;
  const uint32_t block = blockIdx.x - uint32_t(s.first_block[f]), all = uint32_t(s.rows[f] * s.chunks),
                 blocks = uint32_t(s.first_block[f + 1] - s.first_block[f]);
  return {FewRowsFormat(f), int(all * block / blocks), int(all * (block + 1) / blocks)};
}
__device__ inline int FirstChunk(const Split& s, const Share& share) {
  return s.chunks == 1 ? 0 : share.begin / s.rows[int(share.format)];
}

// body(tile) for the tiles of this block, of up to kRows rows each.
template <int kRows, class Body>
__device__ inline void ForEachTile(const FewRowsCall& c, const Split& s, const Share& share, const Body& body) {
  const int f = int(share.format), rows = s.rows[f];
  int chunk = FirstChunk(s, share);
  for (int base = chunk * rows; base < share.end; base += rows, ++chunk) {
    for (int p = s.first_part[f]; p < s.first_part[f + 1]; ++p) {
      const int zero = base + s.first_row[p], high = min(share.end - zero, c.part[p].n_out);
      for (int row = max(share.begin - zero, 0); row < high; row += kRows) {
        body(Tile{chunk, p, row, min(kRows, high - row)});
      }
    }
  }
}

__device__ inline int RowBytes(const FewRowsCall& c, FewRowsFormat f) {
  return f == FewRowsFormat::kBF16 ? 2 * c.k : c.k;
}

// Fills the ring with the tiles of this block, by Fillers(kSets) warps.
template <int kSets>
__device__ inline void FillRing(const FewRowsCall& c, const Split& s, const Share& share, uint8_t* stages,
                                uint64_t* full, uint64_t* empty) {
  constexpr int kShare = kTileRows / Fillers(kSets);
  const uint64_t policy = EvictFirstPolicy();
  const int lane = int(threadIdx.x) % 32, r = (int(threadIdx.x) - kConsumers) / 32 * kShare + lane;
  const int row_bytes = RowBytes(c, share.format);
  RingPosition<kRingStages> ring;
  ForEachTile<kSets * kTileRows>(c, s, share, [&](const Tile& tile) {
    const uint8_t* row = static_cast<const uint8_t*>(c.part[tile.part].w.data) + int64_t(tile.first + r) * row_bytes;
    for (int rows = tile.count; rows > 0; rows -= kTileRows, row += kTileRows * row_bytes) {
      for (int at = 0; at < row_bytes; at += kStageBytes) {
        const uint32_t bytes = uint32_t(min(kStageBytes, row_bytes - at));
        BarrierWait(empty + ring.stage, ring.parity ^ 1);
        if (threadIdx.x == kConsumers) {
          BarrierArriveExpect(full + ring.stage, uint32_t(min(rows, kTileRows)) * bytes);
        }
        if (lane < kShare && r < rows) {
          BulkCopy(SharedAddress(stages + ring.stage * kStageSize + r * kPitch), row + at, bytes, full + ring.stage,
                   policy);
        }
        ring.Next();
      }
    }
  });
}

// The scales of row `row` of an E4M3 weight.
__device__ inline const uint8_t* ScalesOf(const FewRowsCall& c, const FewRowsPart& part, int row) {
  const int scale_row = part.scale_rows == 1 ? row : row / 128;
  return static_cast<const uint8_t*>(part.w.scale) + scale_row * (c.k / 128);
}

// Brings the scales of this block's weights into the first-level cache, by all consumers: a step that had to wait for
// memory with them would hold up the ring. `unused` is shared memory for a byte of each; storing them keeps the loads.
__device__ inline void FetchScales(const FewRowsCall& c, const Split& s, const Share& share, uint8_t* unused) {
  constexpr int kSector = 32;
  if (share.format == FewRowsFormat::kBF16) return;
  ForEachTile<kTileRows>(c, s, share, [&](const Tile& tile) {
    const FewRowsPart& part = c.part[tile.part];
    const uint8_t* const end = ScalesOf(c, part, tile.first + tile.count - 1) + c.k / 128;
    for (const uint8_t* p = ScalesOf(c, part, tile.first) + int(threadIdx.x) * kSector; p < end;
         p += kConsumers * kSector) {
      unused[threadIdx.x] = *p;
    }
  });
}

// `count` rows of x from `first` on to shared memory as StageInput lays them out, by all consumers. Most calls have one
// row or two: all of its loads are under way together.
template <SkinnyWeight F, SkinnyInput I>
__device__ inline void StageRows(const FewRowsCall& c, int first, int count, uint8_t* x, float* x_scale) {
  constexpr int kAhead = 4;
  const FewRowsInput& from = I == SkinnyInput::kE4M3 ? c.codes : c.values;
  const uint8_t* const data = static_cast<const uint8_t*>(from.data);
  const int pitch = 2 * c.k + kRowPad, blocks = c.k / 128, per_row = c.k / 8, all = count * per_row;
  for (int v0 = int(threadIdx.x); v0 < all; v0 += kAhead * kConsumers) {
    uint4 value[kAhead];
    uint8_t scale[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int v = v0 + i * kConsumers, r = v / per_row, k = (v - r * per_row) * 8;
      if (v >= all) break;
      const uint8_t* const row = data + (first + r) * from.stride;
      if constexpr (I == SkinnyInput::kE4M3) {
        const uint2 codes = *reinterpret_cast<const uint2*>(row + k);
        value[i] = make_uint4(codes.x, codes.y, 0, 0);
        scale[i] = from.scale[(first + r) * from.scale_stride + k / 128];
      } else {
        value[i] = Load16(row + 2 * k);
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int v = v0 + i * kConsumers, r = v / per_row, k = (v - r * per_row) * 8;
      if (v >= all) break;
      if constexpr (I != SkinnyInput::kBF16) {
        uint2 codes = make_uint2(value[i].x, value[i].y);
        float s;
        if constexpr (I == SkinnyInput::kE4M3) {
          s = F32FromE8M0(scale[i]);
        } else {
          codes = Quantize(value[i], s);  // 16 lanes hold 128 channels of a row
        }
        value[i] = CodesToF16<F>(codes);
        if (k % 128 == 0) x_scale[r * blocks + k / 128] = s;
      }
      *reinterpret_cast<uint4*>(x + r * pitch + InputOffset<F>(k)) = value[i];
    }
  }
}

// What the consumers share.
struct Consumer {
  const uint8_t* stages;
  uint64_t *full, *empty;
  const uint8_t* x;
  const float* x_scale;
  int x_rows;
  RingPosition<kRingStages> ring;
};

// Adds this warp's share of the products of up to 16 rows from `first` on to acc, whose columns are rows of x.
template <SkinnyWeight F, SkinnyInput I, int kNTiles>
__device__ inline void MultiplyRows(const FewRowsCall& c, const FewRowsPart& part, int first, Consumer& in,
                                    float (&acc)[kNTiles][4]) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int pitch = 2 * c.k + kRowPad, blocks = c.k / 128;
  const int pieces = c.k / ElementsPerWarp(F);  // of kWarpBytes, of a row
  // Rows beyond the tile are those of an earlier stage; nobody reads their sums.
  const uint8_t *low_scales = nullptr, *high_scales = nullptr;
  uint8_t low_scale = 0, high_scale = 0;
  if constexpr (F == SkinnyWeight::kE4M3) {
    low_scales = ScalesOf(c, part, min(first + g, part.n_out - 1));
    high_scales = ScalesOf(c, part, min(first + g + 8, part.n_out - 1));
    if (warp < pieces) low_scale = low_scales[warp], high_scale = high_scales[warp];
  }
  Operands<kNTiles> o;
#pragma unroll
  for (int nt = 0; nt < kNTiles; ++nt) {
    // Columns beyond the rows of x repeat the last one; nobody reads their sums.
    o.x[nt] = in.x + min(nt * 8 + g, in.x_rows - 1) * pitch + warp * ElementsPerWarp(F) * 2 + t * 16;
#pragma unroll
    for (int i = 0; i < 2; ++i) o.x_scale[nt][i] = in.x_scale + min(nt * 8 + 2 * t + i, in.x_rows - 1) * blocks + warp;
  }
#pragma unroll 1
  for (int piece = warp; piece - warp < pieces; piece += kWarps) {
    const uint8_t low_now = low_scale, high_now = high_scale;
    if (F == SkinnyWeight::kE4M3 && piece + kWarps < pieces) {
      low_scale = low_scales[piece + kWarps], high_scale = high_scales[piece + kWarps];
    }
    BarrierWait(in.full + in.ring.stage, in.ring.parity);
    if (piece < pieces) {
      o.low = in.stages + in.ring.stage * kStageSize + g * kPitch + warp * kWarpBytes + t * 16;
      o.high = o.low + 8 * kPitch;
      if constexpr (F == SkinnyWeight::kE4M3) o.scale_low = F32FromE8M0(low_now), o.scale_high = F32FromE8M0(high_now);
      if constexpr (F == SkinnyWeight::kBF16) {
        MultiplyBF16<kNTiles>(o, acc);
      } else if constexpr (I == SkinnyInput::kBF16) {
        MultiplyE4M3ByBF16<kNTiles>(o, acc);
      } else {
        MultiplyE4M3<kNTiles>(o, acc);
      }
    }
    __syncwarp();
    if (lane == 0) BarrierArrive(in.empty + in.ring.stage);
    in.ring.Next();
#pragma unroll
    for (int nt = 0; nt < kNTiles; ++nt) {
      o.x[nt] += kWarps * ElementsPerWarp(F) * 2;
#pragma unroll
      for (int i = 0; i < 2; ++i) o.x_scale[nt][i] += kWarps;
    }
  }
}

__device__ inline void StoreResult(const FewRowsPart& part, int64_t x_row, int w_row, float value) {
  const int64_t at = x_row * part.y_stride + w_row;
  if (part.y_f32) {
    static_cast<float*>(part.y)[at] = value * part.factor;
  } else {
    static_cast<__nv_bfloat16*>(part.y)[at] = __float2bfloat16_rn(RoundToBF16(value) * part.factor);
  }
}

// Multiplies all tiles of this block. `sums`: two buffers, for one barrier a tile.
template <SkinnyWeight F, SkinnyInput I, int kSets, int kNTiles>
__device__ inline void Consume(const FewRowsCall& c, const Split& s, const Share& share, Consumer& in, uint8_t* x,
                               float* x_scale, float* sums) {
  constexpr int kTileSums = kTileRows * kSumPitch, kWarpSums = kSets * kNTiles * kTileSums;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const auto stage_chunk = [&](int chunk) {
    in.x_rows = min(s.chunk_rows, c.n - chunk * s.chunk_rows);
    StageRows<F, I>(c, chunk * s.chunk_rows, in.x_rows, x, x_scale);
    NamedBarrier<1, kConsumers>();
  };
  int staged = FirstChunk(s, share), buffer = 0;
  stage_chunk(staged);
  ForEachTile<kSets * kTileRows>(c, s, share, [&](const Tile& tile) {
    const FewRowsPart& part = c.part[tile.part];
    if (tile.chunk != staged) stage_chunk(staged = tile.chunk);
    float* const buffered = sums + buffer * kWarps * kWarpSums;
    buffer ^= 1;
#pragma unroll 1
    for (int set = 0; set * kTileRows < tile.count; ++set) {
      float acc[kNTiles][4] = {};
      MultiplyRows<F, I>(c, part, tile.first + set * kTileRows, in, acc);
#pragma unroll
      for (int nt = 0; nt < kNTiles; ++nt) {
        float* to =
            buffered + warp * kWarpSums + (set * kNTiles + nt) * kTileSums + lane / 4 * kSumPitch + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < 4; ++i) to[i / 2 * 8 * kSumPitch + i % 2] = acc[nt][i];
      }
    }
    NamedBarrier<1, kConsumers>();
    for (int i = int(threadIdx.x); i < kSets * kTileRows * in.x_rows; i += kConsumers) {
      const int row = i % (kSets * kTileRows), column = i / (kSets * kTileRows);
      if (row >= tile.count) continue;
      const float* from =
          buffered + (row / kTileRows * kNTiles + column / 8) * kTileSums + row % kTileRows * kSumPitch + column % 8;
      float value = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) value += from[w * kWarpSums];
      StoreResult(part, tile.chunk * s.chunk_rows + column, tile.first + row, value);
    }
  });
}

template <int kSets, int kNTiles>
__global__ void __launch_bounds__(Threads(kSets), kNTiles == 1 ? 2 : 1)
    FewRowsKernel(const __grid_constant__ Split s, const __grid_constant__ FewRowsCall c) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const SharedLayout layout(kSets, kNTiles, s.chunk_rows, c.k);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + layout.barriers);
  uint64_t* const empty = full + kRingStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kRingStages; ++i) {
      BarrierInit(full + i, 1);
      BarrierInit(empty + i, kWarps);
    }
    FenceBarrierInit();
  }
  LetSuccessorStart();
  const Share share = ShareOfBlock(s);
  __syncthreads();
  if (threadIdx.x >= kConsumers) {
    FillRing<kSets>(c, s, share, shared, full, empty);
    return;
  }

  uint8_t* const x = shared + layout.x;
  float* const x_scale = reinterpret_cast<float*>(shared + layout.x_scale);
  float* const sums = reinterpret_cast<float*>(shared + layout.sums);
  FetchScales(c, s, share, shared + layout.sums);
  Consumer in = {shared, full, empty, x, x_scale, 0, {}};
  WaitForPredecessor();
  using W = SkinnyWeight;
  using X = SkinnyInput;
  if (share.format == FewRowsFormat::kE4M3) {
    Consume<W::kE4M3, X::kE4M3, kSets, kNTiles>(c, s, share, in, x, x_scale, sums);
  } else if (share.format == FewRowsFormat::kE4M3Rounding) {
    Consume<W::kE4M3, X::kBF16Quantize, kSets, kNTiles>(c, s, share, in, x, x_scale, sums);
  } else if (share.format == FewRowsFormat::kE4M3ByBF16) {
    Consume<W::kE4M3, X::kBF16, kSets, kNTiles>(c, s, share, in, x, x_scale, sums);
  } else {
    Consume<W::kBF16, X::kBF16, kSets, kNTiles>(c, s, share, in, x, x_scale, sums);
  }
}

// Gives each format blocks in proportion to its bytes, one at least; they may be fewer than `blocks` in all. Sorts the
// parts.
Split SplitOver(int blocks, int chunk_rows, FewRowsCall& c) {
  std::stable_sort(c.part, c.part + c.parts,
                   [](const FewRowsPart& a, const FewRowsPart& b) { return a.format < b.format; });
  Split s = {};
  s.chunk_rows = chunk_rows;
  s.chunks = (c.n + chunk_rows - 1) / chunk_rows;
  int64_t units[kFewRowsFormats] = {}, all = 0;
  for (int p = 0; p < c.parts; ++p) {
    const int f = int(c.part[p].format);
    s.first_row[p] = s.rows[f];
    s.rows[f] += c.part[p].n_out;
    ++s.first_part[f + 1];
  }
  for (int f = 0; f < kFewRowsFormats; ++f) {
    units[f] = int64_t(s.rows[f]) * (FewRowsFormat(f) == FewRowsFormat::kBF16 ? 2 : 1);
    all += units[f];
    s.first_part[f + 1] += s.first_part[f];
  }
  int64_t before = 0;
  for (int f = 0; f < kFewRowsFormats; ++f) {
    before += units[f];
    const int end = int((before * blocks + all / 2) / all);
    const int64_t most = int64_t(s.rows[f]) * s.chunks;
    const int own = int(std::clamp<int64_t>(end - s.first_block[f], std::min<int64_t>(most, 1), most));
    s.first_block[f + 1] = s.first_block[f] + own;
  }
  return s;
}

constexpr size_t kSharedLimit = 227 * 1024;

template <int kSets, int kNTiles>
cudaError_t StartFewRows(const Launch& launch, FewRowsCall& c, int chunk_rows) {
  const size_t shared = size_t(SharedLayout(kSets, kNTiles, chunk_rows, c.k).total);
  const int per_sm = shared <= kSharedLimit / 2 - 1024 ? kBlocksPerSm : 1;
  const Split s = SplitOver(launch.sms * per_sm, chunk_rows, c);
  return Start(launch, FewRowsKernel<kSets, kNTiles>, dim3(unsigned(s.first_block[kFewRowsFormats])), Threads(kSets),
               shared, s, c);
}

template <int kSets>
cudaError_t StartFewRows(const Launch& launch, FewRowsCall& c) {
  const int rows = std::min(c.n, kSkinnyRows);
  if (rows > 8 && size_t(SharedLayout(kSets, 2, rows, c.k).total) <= kSharedLimit) {
    return StartFewRows<kSets, 2>(launch, c, rows);
  }
  return StartFewRows<kSets, 1>(launch, c, std::min(rows, 8));
}

}  // namespace

cudaError_t FewRowsLinear(const Launch& launch, FewRowsCall c) {
  int rows = 0;
  for (int p = 0; p < c.parts; ++p) rows += c.part[p].n_out;
  if (c.n == 0 || rows == 0) return cudaSuccess;
  // Short rows: two sets of 16 between the barriers.
  const bool short_rows = c.k <= 2 * kStageBytes && rows >= 2 * 2 * kTileRows * launch.sms;
  return short_rows ? StartFewRows<2>(launch, c) : StartFewRows<1>(launch, c);
}

}  // namespace vexil::cuda
