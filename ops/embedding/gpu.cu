// A block per token, stream and 1024 columns.
#include "ops/embedding/embedding.h"
#include "ops/gpu_kernel.cuh"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 1024;

template <class W, class T>
__global__ void EmbeddingKernel(const int32_t* ids, Rows<const W> table, Rows<T> y, int d) {
  BeginKernel();
  const W* row = table.at(ids[blockIdx.x]);
  T* out = y.at(blockIdx.x, blockIdx.y);
  const int begin = int(blockIdx.z) * kColumns, end = begin + kColumns < d ? begin + kColumns : d;
  for (int i = begin + int(threadIdx.x); i < end; i += kThreads) out[i] = FromF32<T>(ToF32(row[i]));
}

}  // namespace

Support EmbeddingBlockSupports(const Context&, const Embedding::Args& a) {
  VX_REQUIRE(IsElement(a.table.dtype()) || a.table.dtype() == DType::kF16, "table must be BF16, F32 or F16");
  return {};
}

Status EmbeddingBlock(const Context& ctx, const Embedding::Args& a) {
  const dim3 grid(unsigned(a.ids.dim(0)), unsigned(a.y.dim(1)), Blocks(a.table.dim(1), kColumns));
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  WithElement(a.y.dtype(), [&](auto y) {
    const auto run = [&]<class W>(W) {
      using T = decltype(y);
      Launch(ctx, EmbeddingKernel<W, T>, grid, kThreads, 0, DataOf<int32_t>(a.ids), RowsOf<W>(a.table),
             MutRowsOf<T>(a.y), int(a.table.dim(1)));
    };
    a.table.dtype() == DType::kF16 ? run(F16{}) : WithElement(a.table.dtype(), run);
  });
  return Launched(Embedding::kName);
}

}  // namespace vexil::gpu
