// A block per row and chunk of it, then a block per row that compares the chunks: the smallest key, where NaN ranks
// behind -infinity. Bytes: the logits once.
#include "ops/argmax/argmax.h"
#include "ops/argmax/gpu_row.cuh"

namespace vexil::gpu {
namespace {

__global__ void __launch_bounds__(kChunkThreads) BestKernel(Rows<const float> logits, int vocab, Rows<uint64_t> best) {
  BeginKernel();
  __shared__ uint64_t partial[kWarp];
  const uint64_t key = BestOfChunk<false>(logits.at(blockIdx.y), vocab, int(blockIdx.x), partial);
  if (threadIdx.x == 0) best.at(blockIdx.y)[blockIdx.x] = key;
}

__global__ void __launch_bounds__(kWarp) ArgmaxKernel(Rows<uint64_t> best, int chunks, int32_t* index) {
  BeginKernel();
  __shared__ uint64_t partial[kWarp];
  const uint64_t key = BestOfRow(best.at(blockIdx.x), chunks, partial);
  if (threadIdx.x == 0) index[blockIdx.x] = int32_t(uint32_t(key));
}

}  // namespace

Support ArgmaxChunksSupports(const Context& ctx, const Argmax::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status ArgmaxChunks(const Context& ctx, const Argmax::Args& a) {
  const int64_t rows = a.logits.dim(0);
  const int vocab = int(a.logits.dim(1)), chunks = RowChunks(vocab);
  if (rows == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  const Rows<uint64_t> best{ctx.workspace->Allocate<uint64_t>(rows * chunks), chunks, 1};
  Launch(ctx, BestKernel, dim3(unsigned(chunks), unsigned(rows)), kChunkThreads, 0, RowsOf<float>(a.logits), vocab,
         best);
  Launch(ctx, ArgmaxKernel, unsigned(rows), kWarp, 0, best, chunks, MutDataOf<int32_t>(a.index));
  return Launched(Argmax::kName);
}

}  // namespace vexil::gpu
