// Three launches. The first two are spread over chunks of the rows: the largest logit; then weights (f64 exponentials
// as integers of 2^-44, so sums are exact and do not depend on an order; a token below 2^-45 of the likeliest has
// none). What the second leaves of them is a sum per chunk, and for rows with top-k or top-p a histogram over the
// distance from the largest logit. The third has a block per row: without ranks it draws a chunk, and in it a token;
// with ranks it gathers and sorts the tokens that are near enough to matter (gpu_near.cuh), or, when those are too
// many, answers every step of the definition by radix selection over the whole row (gpu_radix.cuh).
//
// Bytes: the logits twice, the second time from cache; ranked rows a third time, by one block each.
#include "ops/sample/gpu_near.cuh"
#include "ops/sample/gpu_radix.cuh"
#include "ops/sample/gpu_row.cuh"
#include "ops/sample/sample.h"

namespace vexil::gpu {
namespace {

struct Call {
  Rows<const float> logits;
  int vocab, chunks;
  Parameters parameters;
  Rows<uint64_t> best;         // [n][chunks]
  Rows<Weight> sums;           // [n][chunks]
  Rows<Weight> distance_sums;  // [n][kDistances]
  Rows<uint32_t> distance_counts;
  Weight* weights;  // [n][vocab]: of rows that are selected from as a whole
  int32_t* token;
};

__global__ void __launch_bounds__(kChunkThreads) BestKernel(const __grid_constant__ Call c) {
  BeginKernel();
  __shared__ uint64_t partial[kWarp];
  const int row = int(blockIdx.y), chunk = int(blockIdx.x);
  if (chunk == 0) {
    for (int d = threadIdx.x; d < kDistances; d += kChunkThreads) {
      c.distance_sums.at(row)[d] = 0;
      c.distance_counts.at(row)[d] = 0;
    }
  }
  const uint64_t key = BestOfChunk<true>(c.logits.at(row), c.vocab, chunk, partial);
  if (threadIdx.x == 0) c.best.at(row)[chunk] = key;
}

__global__ void __launch_bounds__(kChunkThreads) WeighKernel(const __grid_constant__ Call c) {
  BeginKernel();
  __shared__ uint64_t partial[kWarp];
  __shared__ Weight sums[kWarp];
  __shared__ uint32_t low[kDistances], high[kDistances], counts[kDistances];
  const int row = int(blockIdx.y), chunk = int(blockIdx.x);
  const float* logits = c.logits.at(row);
  const Row r = RowOf(c.parameters, row, logits, c.vocab, BestOfRow(c.best.at(row), c.chunks, partial));
  if (r.decided) return;
  for (int d = threadIdx.x; d < kDistances; d += kChunkThreads) low[d] = high[d] = counts[d] = 0;
  __syncthreads();
  Weight sum = 0;
#pragma unroll
  for (int p = 0; p < kRowChunk / kChunkThreads; ++p) {
    const int v = chunk * kRowChunk + p * kChunkThreads + int(threadIdx.x);
    if (v >= c.vocab) continue;
    const Weight weight = r.WeightOf(logits[v]);
    if (weight >= r.least) sum += weight;
    if (!r.ranked) continue;
    const int d = r.DistanceOf(logits[v]);
    atomicAdd(&counts[d], 1u);
    if (weight != 0) AddInHalves(low[d], high[d], weight);
  }
  sum = BlockReduce(sum, sums, Weight(0));
  if (threadIdx.x == 0) c.sums.at(row)[chunk] = sum;
  if (!r.ranked) return;
  for (int d = threadIdx.x; d < kDistances; d += kChunkThreads) {
    if (counts[d] == 0) continue;
    atomicAdd(&c.distance_counts.at(row)[d], counts[d]);
    const Weight weight = Weight(high[d]) << 32 | low[d];
    if (weight != 0) atomicAdd(&c.distance_sums.at(row)[d], weight);
  }
}

struct DrawShared {
  union {
    SelectShared select;
    NearShared near;
  };
  uint64_t partial[kWarp];
  Weight sums[kWarp];
  Weight before;
  int found;
};

// A row without top-k and top-p: the first token in the order of indices whose cumulative weight exceeds the drawn
// share.
__device__ inline int DrawByIndex(const Call& c, const Row& r, const float* logits, int row, DrawShared& s) {
  const int t = int(threadIdx.x);
  const Weight own = t < c.chunks ? c.sums.at(row)[t] : 0;
  const Weight upto = BlockScan(own, s.sums);
  const Weight total = BlockReduce(own, s.sums, Weight(0));
  const Weight target = r.Target(total);
  if (upto - own <= target && target < upto) {
    s.found = t;
    s.before = upto - own;
  }
  __syncthreads();
  const int v = s.found * kRowChunk + t;
  Weight weight = v < c.vocab ? r.WeightOf(logits[v]) : 0;
  weight = weight >= r.least ? weight : 0;
  const Weight end = s.before + BlockScan(weight, s.sums);
  if (end - weight <= target && target < end) s.found = v;
  __syncthreads();
  return s.found;
}

__global__ void __launch_bounds__(kSelectThreads, 1) DrawKernel(const __grid_constant__ Call c) {
  static_assert(kRowChunk == kSelectThreads);
  BeginKernel();
  extern __shared__ uint64_t keys[];
  __shared__ DrawShared s;
  const int row = int(blockIdx.x);
  const float* logits = c.logits.at(row);
  const Row r = RowOf(c.parameters, row, logits, c.vocab, BestOfRow(c.best.at(row), c.chunks, s.partial));
  int drawn = r.token;
  if (!r.decided && !r.ranked) {
    drawn = DrawByIndex(c, r, logits, row, s);
  } else if (!r.decided) {
    const Near near = FindNear(r, c.distance_sums.at(row), c.distance_counts.at(row), s.near);
    drawn = near.count <= kMaxNear
                ? DrawNear(r, near, logits, c.vocab, c.best.at(row), c.chunks, keys, s.near)
                : DrawBySelection(r, logits, c.vocab, c.weights + int64_t(row) * c.vocab, s.select, s.sums);
  }
  if (threadIdx.x == 0) c.token[row] = drawn;
}

}  // namespace

Support SampleChunksSupports(const Context& ctx, const Sample::Args& a) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.logits.dim(1) < kMaxVocab, "vocabulary of 2^18 or more: sums would not fit");
  return {};
}

Status SampleChunks(const Context& ctx, const Sample::Args& a) {
  const int64_t rows = a.logits.dim(0);
  if (rows == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  Call c;
  c.logits = RowsOf<float>(a.logits);
  c.vocab = int(a.logits.dim(1));
  c.chunks = RowChunks(c.vocab);
  c.parameters = {DataOf<float>(a.temperature), DataOf<int32_t>(a.top_k), DataOf<float>(a.top_p),
                  DataOf<float>(a.min_p), DataOf<float>(a.uniform)};
  c.best = {ctx.workspace->Allocate<uint64_t>(rows * c.chunks), c.chunks, 1};
  c.sums = {ctx.workspace->Allocate<Weight>(rows * c.chunks), c.chunks, 1};
  c.distance_sums = {ctx.workspace->Allocate<Weight>(rows * kDistances), kDistances, 1};
  c.distance_counts = {ctx.workspace->Allocate<uint32_t>(rows * kDistances), kDistances, 1};
  c.weights = ctx.workspace->Allocate<Weight>(rows * c.vocab);
  c.token = MutDataOf<int32_t>(a.token);
  const dim3 chunks(unsigned(c.chunks), unsigned(rows));
  Launch(ctx, BestKernel, chunks, kChunkThreads, 0, c);
  Launch(ctx, WeighKernel, chunks, kChunkThreads, 0, c);
  Launch(ctx, DrawKernel, unsigned(rows), kSelectThreads, kMaxNear * sizeof(uint64_t), c);
  return Launched(Sample::kName);
}

}  // namespace vexil::gpu
