// Every format and shape: a warp per column of y and per tile of pairs of one expert. Which tile is whose is worked out
// on the device from `offsets`, for as many tiles as there can be at most.
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/gpu_dot.cuh"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 8;
constexpr int kMaxExperts = 512;

// The experts' addresses travel as an argument: nothing has to be uploaded, and a captured launch keeps them.
struct Experts {
  const uint8_t* data[kMaxExperts];
  const uint8_t* scale[kMaxExperts];
};

// The expert and first pair of tile `tile` of R pairs, or expert -1 behind the last one.
struct Tile {
  int expert, first, rows;
};
template <int R>
__device__ inline Tile FindTile(const int32_t* offsets, int num_experts, int tile) {
  if constexpr (R == 1) {
    if (tile >= offsets[num_experts]) return {-1, 0, 0};
    return {FindSegment(offsets, num_experts, tile), tile, 1};
  }
  // Each lane counts the tiles of a range of experts; the ranges are then walked.
  const int per_lane = (num_experts + kWarp - 1) / kWarp, begin = Lane() * per_lane;
  int own = 0;
  for (int e = begin; e < begin + per_lane && e < num_experts; ++e) own += (offsets[e + 1] - offsets[e] + R - 1) / R;
  const int before = WarpScan(own) - own;
  int code = -1;
  if (tile >= before && tile < before + own) {
    int rest = tile - before, e = begin;
    for (;; ++e) {
      const int tiles = (offsets[e + 1] - offsets[e] + R - 1) / R;
      if (rest < tiles) break;
      rest -= tiles;
    }
    code = (offsets[e] + rest * R) * kMaxExperts + e;
  }
  code = WarpReduce(code, Larger());
  if (code < 0) return {-1, 0, 0};
  const int e = code % kMaxExperts, first = code / kMaxExperts, left = offsets[e + 1] - first;
  return {e, first, left < R ? left : R};
}

template <DType kType, int R>
__global__ void GroupedLinearKernel(Operand x, Operand w, const __grid_constant__ Experts experts, const int32_t* rows,
                                    const int32_t* offsets, int num_experts, Output y, int out, int k) {
  BeginKernel();
  const Tile tile = FindTile<R>(offsets, num_experts, int(blockIdx.y));
  const int64_t j = int64_t(blockIdx.x) * kWarps + Warp();
  if (tile.expert < 0 || j >= out) return;
  w.data = experts.data[tile.expert];
  w.scale = experts.scale[tile.expert];
  float sum[R];
  Dot<kType, R>(
      x, w, j, k, tile.rows, y.bf16, [&](int r) { return int64_t(rows ? rows[tile.first + r] : tile.first + r); }, sum);
  if (Lane() != 0) return;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (r < tile.rows) y.Store(tile.first + r, j, sum[r]);
  }
}

}  // namespace

Support GroupedLinearWarpSupports(const Context&, const GroupedLinear::Args& a) {
  VX_REQUIRE(a.w.size() <= size_t(kMaxExperts), "more than 512 experts");
  VX_REQUIRE(a.y.dim(0) <= (1 << 21), "more than 2^21 pairs");  // a tile's first pair and expert share 31 bits
  return WarpOperands(a.x.data.dtype(), a.w[0].data.dtype());
}

Status GroupedLinearWarp(const Context& ctx, const GroupedLinear::Args& a) {
  const int pairs = int(a.y.dim(0)), out = int(a.y.dim(1)), k = int(a.x.Columns()), num_experts = int(a.w.size());
  if (pairs == 0) return {};
  const Operand x = OperandOf(a.x);
  Operand w = OperandOf(a.w[0]);
  Experts experts = {};
  for (size_t e = 0; e < a.w.size(); ++e) {
    const Operand o = OperandOf(a.w[e]);
    experts.data[e] = o.data;
    experts.scale[e] = o.scale;
    w.aligned &= o.aligned;
  }
  WithWeightType(a.w[0].data.dtype(), [&]<DType kType>() {
    const auto run = [&]<int R>(std::integral_constant<int, R>) {
      const int tiles = R == 1 ? pairs : pairs / R + (num_experts < pairs ? num_experts : pairs);
      Launch(ctx, GroupedLinearKernel<kType, R>, dim3(Blocks(out, kWarps), unsigned(tiles)), kWarps * kWarp, 0, x, w,
             experts, a.rows.empty() ? nullptr : DataOf<int32_t>(a.rows), DataOf<int32_t>(a.offsets), num_experts,
             OutputOf(a.y), out, k);
    };
    pairs <= num_experts ? run(std::integral_constant<int, 1>()) : run(std::integral_constant<int, 8>());
  });
  return Launched(GroupedLinear::kName);
}

}  // namespace vexil::gpu
