// Floor: every byte of the weights once, at the rate at which memory reads.
//
// Work: every block takes its share of the shared expert's items first, then of the routed experts' (items:
// cuda_skinny_item.cuh). The weights of the shared expert depend on nothing, so the filling warps start with them while
// the kernel before this one still runs and the multiplying warps wait for it and list the chunks of the routed
// experts. An item of either kind reads about the same number of bytes, so items are dealt out by number.
#include <algorithm>

#include "ops/linear/cuda_experts.h"
#include "ops/linear/cuda_skinny_item.cuh"

namespace vexil::cuda {
namespace {

constexpr int kShared = kSkinnyExperts;  // the shared expert's place in the table of weights

struct ExpertWeights {
  SkinnyMatrix w[2][kSkinnyExperts + 1];  // gate and up, or the one weight
};
struct ExpertGates {
  SkinnyGate routed, shared;
};
struct ChunkRows {
  int routed, shared, most;
};

// The rows of x in a pass over a weight.
ChunkRows ChunkRowsOf(const SkinnyExperts& c) {
  const int routed = GroupChunkRows(c.routed), shared = std::min(std::max(routed, 4), c.shared.n);
  return {routed, shared, std::max(routed, shared)};
}

template <bool kGate>
using RoutedShape = Shape<SkinnyWeight::kE2M1, 16, 2, kGate>;
template <bool kGate>
using SharedShape = Shape<SkinnyWeight::kE4M3, 16, 1, kGate>;
constexpr int kStages = Stages(16, true), kStageSize = StageSize(SkinnyWeight::kE2M1, 16);

template <bool kGate>
__host__ __device__ Layout LayoutOf(int rows, int k) {
  constexpr SkinnyInput I = kGate ? SkinnyInput::kE4M3 : SkinnyInput::kBF16Quantize;
  return Layout(SkinnyWeight::kE2M1, I, 16, 2, 1, rows, k, true);
}

template <bool kGate>
__global__ void __launch_bounds__(kThreads, 2)
    ExpertsKernel(const __grid_constant__ SkinnyExperts calls, const __grid_constant__ ExpertWeights weights,
                  const __grid_constant__ ExpertGates gates, ChunkRows rows) {
  using Routed = RoutedShape<kGate>;
  using Common = SharedShape<kGate>;
  constexpr SkinnyInput I = kGate ? SkinnyInput::kE4M3 : SkinnyInput::kBF16Quantize;
  constexpr int kListed = 2;  // the named barrier that says that the list is there
  extern __shared__ __align__(1024) uint8_t shared[];
  const SkinnyCall& c = calls.routed;
  const Layout layout = LayoutOf<kGate>(rows.most, c.k);
  float* const sums = reinterpret_cast<float*>(shared + layout.sums);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + layout.barriers);
  Ring<kStages, kStageSize> ring{shared, full, full + kStages};
  uint32_t* const list = reinterpret_cast<uint32_t*>(shared + layout.chunks);
  int* const listed = reinterpret_cast<int*>(list + kSkinnyChunks);
  const int warp = int(threadIdx.x) / 32;

  if (threadIdx.x == 0) ring.Init();
  LetSuccessorStart();
  __syncthreads();
  const int common_tiles = (c.n_out + Common::kItemRows - 1) / Common::kItemRows,
            routed_tiles = (c.n_out + Routed::kItemRows - 1) / Routed::kItemRows;
  const int64_t common_items = int64_t(calls.shared.n + rows.shared - 1) / rows.shared * common_tiles;
  const auto common_before = [&](int64_t block) { return int(common_items * block / gridDim.x); };
  // Blocks get the same number of items of both kinds together, if there are enough routed ones to make up for it.
  const auto routed_before = [&](int64_t block) {
    const int64_t items = int64_t(*listed) * routed_tiles;
    if (items < int64_t(gridDim.x)) return int(items * block / gridDim.x);
    return int((items + common_items) * block / gridDim.x) - common_before(block);
  };
  const int block = int(blockIdx.x), common_end = common_before(block + 1);

  if (warp >= kWarps) {  // fills the ring
    const uint64_t policy = EvictFirstPolicy();
    for (int item = common_before(block); item < common_end; ++item) {
      FillItem<Common>(weights.w[0][kShared], weights.w[kGate ? 1 : 0][kShared],
                       item % common_tiles * Common::kItemRows, c.n_out, c.k, policy, ring);
    }
    NamedBarrier<kListed, kThreads>();
    const int end = routed_before(block + 1);
    for (int item = routed_before(block); item < end; ++item) {
      const int e = int(list[item / routed_tiles] & 0xff);
      FillItem<Routed>(weights.w[0][e], weights.w[kGate ? 1 : 0][e], item % routed_tiles * Routed::kItemRows, c.n_out,
                       c.k, policy, ring);
    }
    return;
  }

  WaitForPredecessor();
  ListChunks(c, rows.routed, list, listed, reinterpret_cast<int*>(sums));
  NamedBarrierArrive<kListed, kThreads>();
  uint8_t* const x = shared + layout.x;
  float* const x_scale = reinterpret_cast<float*>(shared + layout.x_scale);
  int staged = -1, buffer = 0;
  float weight = 1;
  const auto next_sums = [&] {
    buffer ^= 1;
    return sums + buffer * kWarps * Routed::kSets * Routed::kTileRows * kSumPitch;
  };
  for (int item = common_before(block); item < common_end; ++item) {
    const int first = item / common_tiles * rows.shared, count = min(rows.shared, calls.shared.n - first);
    if (item / common_tiles != staged) {
      staged = item / common_tiles;
      weight = RowWeight<Common>(gates.shared, first, count);
      StageInput<Common::kWeight, I>(calls.shared, 0, first, count, x, x_scale);
      NamedBarrier<1, kConsumers>();
    }
    const int row0 = item % common_tiles * Common::kItemRows;
    float acc[Common::kSets][1][4] = {};
    MultiplyItem<Common, I, 1>(calls.shared, weights.w[0][kShared], weights.w[kGate ? 1 : 0][kShared], row0, count, x,
                               x_scale, ring, acc);
    StoreItem<Common, 1>(calls.shared, gates.shared.limit, weight, acc, next_sums(), first, count, row0, 0);
  }
  staged = -1;
  Chunk chunk = {};
  const int end = routed_before(block + 1);
  for (int item = routed_before(block); item < end; ++item) {
    if (item / routed_tiles != staged) {
      staged = item / routed_tiles;
      chunk = ListedChunk(c, rows.routed, list[staged]);
      weight = RowWeight<Routed>(gates.routed, chunk.first, chunk.count);
      StageInput<Routed::kWeight, I>(c, 0, chunk.first, chunk.count, x, x_scale);
      NamedBarrier<1, kConsumers>();
    }
    const int row0 = item % routed_tiles * Routed::kItemRows;
    float acc[Routed::kSets][1][4] = {};
    MultiplyItem<Routed, I, 1>(c, weights.w[0][chunk.expert], weights.w[kGate ? 1 : 0][chunk.expert], row0, chunk.count,
                               x, x_scale, ring, acc);
    StoreItem<Routed, 1>(c, gates.routed.limit, weight, acc, next_sums(), chunk.first, chunk.count, row0, 0);
  }
}

constexpr size_t kSharedLimit = 227 * 1024;

template <bool kGate>
cudaError_t StartExperts(const Launch& launch, const SkinnyExperts& c, const ExpertWeights& weights,
                         const ExpertGates& gates) {
  if (c.routed.pairs == 0 || c.shared.n == 0) return cudaErrorInvalidValue;
  const ChunkRows rows = ChunkRowsOf(c);
  const size_t shared = size_t(LayoutOf<kGate>(rows.most, c.routed.k).total);
  const int per_sm = shared <= kSharedLimit / 2 - 1024 ? 2 : 1;
  return Start(launch, ExpertsKernel<kGate>, dim3(unsigned(launch.sms * per_sm)), kThreads, shared, c, weights, gates,
               rows);
}

}  // namespace

bool SkinnyExpertsFit(const SkinnyExperts& c, bool gate) {
  const int rows = ChunkRowsOf(c).most;
  return size_t(gate ? LayoutOf<true>(rows, c.routed.k).total : LayoutOf<false>(rows, c.routed.k).total) <=
         kSharedLimit;
}

cudaError_t SkinnyExpertsGate(const Launch& launch, const SkinnyExperts& c, const SkinnyMatrix* w1,
                              const SkinnyMatrix* w3, const SkinnyGate& routed, const SkinnyMatrix& shared_w1,
                              const SkinnyMatrix& shared_w3, const SkinnyGate& shared) {
  ExpertWeights weights = {};
  std::copy_n(w1, c.routed.experts, weights.w[0]);
  std::copy_n(w3, c.routed.experts, weights.w[1]);
  weights.w[0][kShared] = shared_w1;
  weights.w[1][kShared] = shared_w3;
  return StartExperts<true>(launch, c, weights, {routed, shared});
}

cudaError_t SkinnyExpertsDown(const Launch& launch, const SkinnyExperts& c, const SkinnyMatrix* w2,
                              const SkinnyMatrix& shared_w2) {
  ExpertWeights weights = {};
  std::copy_n(w2, c.routed.experts, weights.w[0]);
  weights.w[0][kShared] = shared_w2;
  return StartExperts<false>(launch, c, weights, {});
}

}  // namespace vexil::cuda
