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

#include "ops/linear/cuda_skinny_item.cuh"

namespace vexil::cuda {
namespace {

template <SkinnyWeight F, SkinnyInput I, int kTileRows, int kSets, bool kGate, int kNTiles, int kTable>
__global__ void __launch_bounds__(kThreads, kNTiles == 1 ? 2 : 1)
    SkinnyKernel(const __grid_constant__ SkinnyCall c, const __grid_constant__ Weights<kTable> weights,
                 const __grid_constant__ SkinnyGate gate, int chunk_rows) {
  using S = Shape<F, kTileRows, kSets, kGate>;
  constexpr bool kGrouped = kTable == kSkinnyExperts;
  constexpr int kStages = Stages(kTileRows, kGrouped);
  extern __shared__ __align__(1024) uint8_t shared[];
  const Layout layout(F, I, kTileRows, kSets, kNTiles, chunk_rows, c.k, kGrouped);
  float* const sums = reinterpret_cast<float*>(shared + layout.sums);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + layout.barriers);
  Ring<kStages, StageSize(F, kTileRows)> ring{shared, full, full + kStages};
  uint32_t* const list = reinterpret_cast<uint32_t*>(shared + layout.chunks);
  int* const listed = reinterpret_cast<int*>(list + kSkinnyChunks);
  const int warp = int(threadIdx.x) / 32;

  if (threadIdx.x == 0) ring.Init();
  LetSuccessorStart();
  if (kGrouped && warp < kWarps) {
    WaitForPredecessor();
    ListChunks(c, chunk_rows, list, listed, reinterpret_cast<int*>(sums));
  }
  __syncthreads();
  const int chunks_per_part = (c.n + chunk_rows - 1) / chunk_rows;
  const int chunks = kGrouped ? *listed : kTable == kSkinnyParts ? c.parts * chunks_per_part : chunks_per_part;
  const auto chunk_at = [&](int i) {
    if constexpr (kGrouped) {
      return ListedChunk(c, chunk_rows, list[i]);
    } else {
      const int part = kTable == kSkinnyParts ? i / chunks_per_part : 0,
                first = (i - part * chunks_per_part) * chunk_rows;
      return Chunk{part, first, min(chunk_rows, c.n - first)};
    }
  };

  const int tiles = (c.n_out + S::kItemRows - 1) / S::kItemRows;
  const int64_t items = int64_t(chunks) * tiles;
  const int begin = int(items * blockIdx.x / gridDim.x), end = int(items * (blockIdx.x + 1) / gridDim.x);

  if (warp >= kWarps) {  // fills the ring
    const uint64_t policy = EvictFirstPolicy();
    for (int item = begin; item < end; ++item) {
      const int e = kGrouped                 ? int(list[item / tiles] & 0xff)
                    : kTable == kSkinnyParts ? item / tiles / chunks_per_part
                                             : 0;
      FillItem<S>(weights.w[0][e], weights.w[kGate ? 1 : 0][e], item % tiles * S::kItemRows, c.n_out, c.k, policy,
                  ring);
    }
    return;
  }

  uint8_t* const x = shared + layout.x;
  float* const x_scale = reinterpret_cast<float*>(shared + layout.x_scale);
  if constexpr (!kGrouped) WaitForPredecessor();
  int staged = -1, buffer = 0;
  Chunk chunk = {};
  float weight = 1;
  for (int item = begin; item < end; ++item) {
    if (item / tiles != staged) {
      staged = item / tiles;
      chunk = chunk_at(staged);
      weight = RowWeight<S>(gate, chunk.first, chunk.count);
      StageInput<F, I>(c, kTable == kSkinnyParts ? chunk.expert : 0, chunk.first, chunk.count, x, x_scale);
      NamedBarrier<1, kConsumers>();
    }
    const int row0 = item % tiles * S::kItemRows;
    float acc[kSets][kNTiles][4] = {};
    MultiplyItem<S, I, kNTiles>(c, weights.w[0][chunk.expert], weights.w[kGate ? 1 : 0][chunk.expert], row0,
                                chunk.count, x, x_scale, ring, acc);
    StoreItem<S, kNTiles>(c, gate.limit, weight, acc, sums + buffer * kWarps * kSets * kNTiles * kTileRows * kSumPitch,
                          chunk.first, chunk.count, row0, kTable == kSkinnyParts ? chunk.expert * c.y_part_stride : 0);
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
  constexpr int kItemRows = Shape<F, kTileRows, kSets, kGate>::kItemRows;
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
  if (c.experts > kSkinnyExperts || c.pairs / 8 + c.experts > kSkinnyChunks) return cudaErrorInvalidValue;
  Weights<kSkinnyExperts> weights = {};
  for (int e = 0; e < c.experts; ++e) {
    weights.w[0][e] = w[e];
    if (up) weights.w[1][e] = up[e];
  }
  return StartSkinny<F, I, 16, 2, kGate, 1, kSkinnyExperts>(launch, c, weights, gate, GroupChunkRows(c));
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

cudaError_t SkinnyGatedLinear(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix& gate_weight,
                              const SkinnyMatrix& up, const SkinnyGate& gate) {
  using W = SkinnyWeight;
  using X = SkinnyInput;
  if (c.weight != W::kE4M3 || c.input != X::kE4M3) return cudaErrorNotSupported;
  Weights<1> weights = {};
  weights.w[0][0] = gate_weight;
  weights.w[1][0] = up;
  return StartSkinny<W::kE4M3, X::kE4M3, 16, 1, true, 1, 1>(launch, c, weights, gate, std::min(c.n, 8));
}

cudaError_t SkinnyGroupedLinear(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix* w) {
  return DispatchGrouped<false>(launch, c, w, nullptr, {});
}

cudaError_t SkinnyGroupedGate(const Launch& launch, const SkinnyCall& c, const SkinnyMatrix* gate_weights,
                              const SkinnyMatrix* up, const SkinnyGate& gate) {
  return DispatchGrouped<true>(launch, c, gate_weights, up, gate);
}

}  // namespace vexil::cuda
