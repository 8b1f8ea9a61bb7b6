// A block per row: the smallest key, where NaN ranks behind -infinity.
#include "ops/argmax/argmax.h"
#include "ops/argmax/gpu_row.cuh"

namespace vexil::gpu {
namespace {

__global__ void ArgmaxKernel(Rows<const float> logits, int vocab, int32_t* index) {
  BeginKernel();
  __shared__ uint64_t partial[kWarp];
  const int best = ArgmaxOfRow(logits.at(blockIdx.x), vocab, partial);
  if (threadIdx.x == 0) index[blockIdx.x] = best;
}

}  // namespace

Support ArgmaxBlockSupports(const Context&, const Argmax::Args&) { return {}; }

Status ArgmaxBlock(const Context& ctx, const Argmax::Args& a) {
  const unsigned rows = unsigned(a.logits.dim(0));
  if (rows == 0) return {};
  Launch(ctx, ArgmaxKernel, rows, 1024, 0, RowsOf<float>(a.logits), int(a.logits.dim(1)), MutDataOf<int32_t>(a.index));
  return Launched(Argmax::kName);
}

}  // namespace vexil::gpu
