// A block per row; copies words of the size that all addresses share.
#include "ops/gpu_kernel.cuh"
#include "ops/scatter_rows/scatter_rows.h"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 128;

template <class Word>
__global__ void ScatterKernel(const char* x, int64_t x_stride, const int32_t* rows, char* pool, int64_t pool_stride,
                              int words) {
  BeginKernel();
  const int row = rows[blockIdx.x];
  if (row < 0) return;
  const Word* from = reinterpret_cast<const Word*>(x + blockIdx.x * x_stride);
  Word* to = reinterpret_cast<Word*>(pool + row * pool_stride);
  for (int i = threadIdx.x; i < words; i += kThreads) to[i] = from[i];
}

}  // namespace

Support ScatterRowsBlockSupports(const Context&, const ScatterRows::Args&) { return {}; }

Status ScatterRowsBlock(const Context& ctx, const ScatterRows::Args& a) {
  const unsigned rows = unsigned(a.x.dim(0));
  const int64_t element = BytesOf(a.x.dtype()), bytes = a.x.dim(1) * element;
  if (rows == 0 || bytes == 0) return {};
  const char* x = static_cast<const char*>(a.x.raw());
  char* pool = static_cast<char*>(a.pool.mut_raw());
  const int64_t x_stride = a.x.stride(0) * element, pool_stride = a.pool.stride(0) * element;
  const uint64_t all =
      reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(pool) | uint64_t(x_stride | pool_stride | bytes);
  const auto run = [&]<class Word>(Word) {
    Launch(ctx, ScatterKernel<Word>, rows, kThreads, 0, x, x_stride, DataOf<int32_t>(a.rows), pool, pool_stride,
           int(bytes / int64_t(sizeof(Word))));
  };
  all % 16 == 0 ? run(uint4{}) : all % 4 == 0 ? run(uint32_t{}) : run(uint8_t{});
  return Launched(ScatterRows::kName);
}

}  // namespace vexil::gpu
