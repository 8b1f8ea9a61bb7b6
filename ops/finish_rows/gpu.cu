// A warp per row, which stays in registers from the first step to the last: it is read once and written once. The
// rotations of a token are computed once per block, in f64 as the definition asks, by the first of the token's warps,
// while the others load and norm their rows.
#include <algorithm>

#include "ops/finish_rows/by_ops.h"
#include "ops/finish_rows/gpu_row.cuh"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 8;

struct SetCall {
  RowSteps steps;
  void* x;
  int64_t token_stride;
  int count, heads, d;  // rows, per token; channels
  const int32_t* positions;
  const int32_t* places;  // null: nothing is stored
  void* pool;
  int64_t pool_stride;
};
struct Calls {
  SetCall set[3];
  int begin[3];  // the first block of each set
};

template <class Row, class T>
__device__ inline void Finish(const SetCall& c, int first, float2* rotations) {
  const int r = first + Warp(), token = r / c.heads;
  const bool present = r < c.count;
  T* const x = static_cast<T*>(c.x) + token * c.token_stride + r % c.heads * Row::kWidth;
  Row row;
  if (present) row.Load(x);
  // The first of the block's warps that has this token.
  const int leader = token * c.heads > first ? token * c.heads - first : 0;
  float2* const rotation = rotations + leader * c.steps.pairs;
  if (c.steps.pairs > 0 && present && leader == Warp()) FillRotation(c.steps, c.positions[token], rotation);
  if (present) row.Norm(c.steps);
  if (c.steps.pairs > 0) __syncthreads();
  if (!present) return;
  row.RotateAndRound(c.steps, rotation);
  row.Store(x);
  if (c.places == nullptr) return;
  const int place = c.places[r];
  if (place >= 0) row.Store(static_cast<T*>(c.pool) + place * c.pool_stride);
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp) FinishRowsKernel(const Calls calls) {
  BeginKernel();
  extern __shared__ float2 rotations[];
  const int block = int(blockIdx.x), s = block < calls.begin[1] ? 0 : block < calls.begin[2] ? 1 : 2;
  const SetCall& c = calls.set[s];
  const int first = (block - calls.begin[s]) * kWarps;
  c.d == kWideRow ? Finish<WideRow<T>, T>(c, first, rotations) : Finish<NarrowRow<T>, T>(c, first, rotations);
}

SetCall CallOf(const FinishRows::Set& s) {
  return {StepsOf(s),
          s.x.mut_raw(),
          s.x.stride(0),
          int(s.x.dim(0) * s.x.dim(1)),
          int(s.x.dim(1)),
          int(s.x.dim(2)),
          DataOf<int32_t>(s.positions),
          DataOf<int32_t>(s.rows),
          s.pool.mut_raw(),
          s.rows.empty() ? 0 : s.pool.stride(0)};
}

bool Aligned(const TensorView& v) {
  return reinterpret_cast<uintptr_t>(v.raw()) % 16 == 0 && v.stride(0) * BytesOf(v.dtype()) % 16 == 0;
}

}  // namespace

Support FinishRowsWarpSupports(const Context&, const FinishRows::Args& a) {
  for (const FinishRows::Set& s : a.sets) {
    if (s.x.empty()) continue;
    if (const Support row = SupportsWarpRow(s); !row) return row;
    VX_REQUIRE(Aligned(s.x), "rows are not aligned to 16 bytes");
    VX_REQUIRE(s.rows.empty() || Aligned(s.pool), "rows of the pool are not aligned to 16 bytes");
  }
  return {};
}

Status FinishRowsWarp(const Context& ctx, const FinishRows::Args& a) {
  Calls calls = {};
  int blocks = 0, pairs = 0;
  DType dtype = DType::kBF16;
  for (size_t i = 0; i < a.sets.size(); ++i) {
    calls.begin[i] = blocks;
    const FinishRows::Set& s = a.sets[i];
    if (s.x.empty() || s.x.dim(0) == 0 || s.x.dim(1) == 0) continue;
    calls.set[i] = CallOf(s);
    blocks += int(Blocks(calls.set[i].count, kWarps));
    pairs = std::max(pairs, calls.set[i].steps.pairs);
    dtype = s.x.dtype();
  }
  if (blocks == 0) return {};
  WithElement(dtype, [&](auto e) {
    Launch(ctx, FinishRowsKernel<decltype(e)>, unsigned(blocks), kWarps * kWarp,
           size_t(kWarps * pairs) * sizeof(float2), calls);
  });
  return Launched(FinishRows::kName);
}

Support FinishRowsByOpsSupports(const Context&, const FinishRows::Args&) { return {}; }

Status FinishRowsByOps(const Context& ctx, const FinishRows::Args& a) { return FinishByOps(ctx, a); }

}  // namespace vexil::gpu
