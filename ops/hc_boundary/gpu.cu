// Join for any number of tokens, of 4 streams: a block takes 32 columns of all streams and 8 tokens. Warp w joins token
// w: lane l holds 4 columns of stream l / 8. Then warp w multiplies rows 3w .. 3w + 2 of fn, which it has read before
// it waits for its predecessor, with all tokens. A token's bits do not depend on the others.
//
// Other calls run the four ops.
#include "ops/hc_boundary/gpu_boundary.cuh"

namespace vexil::gpu {
namespace {

constexpr int kTokens = 8, kThreads = kTokens * kWarp, kRows = kMixCount / kTokens;
constexpr int kSliceColumns = 4 * kWarp / kStreams;
constexpr int kFewTokens = 64;

template <class T>
struct JoinCall {
  int n, d;
  Rows<const T> y;
  const float *y_post, *y_comb;  // [n, 4], [n, 4, 4]; null: h stays as it is
  int64_t y_post_stride;
  Rows<T> h;
  Rows<const float> fn;
  SliceSums sums;
};

// Adds v[t] over the lanes, for 8 tokens at once, in the order of WarpReduce. Lane l gets the sum of token l / 4.
__device__ inline float SumOfTokens(float (&v)[kTokens]) {
#pragma unroll
  for (int mask = 16, half = kTokens / 2; half > 0; mask /= 2, half /= 2) {
    const bool upper = (Lane() & mask) != 0;
#pragma unroll
    for (int k = 0; k < half; ++k) {
      const float other = ShuffleXor(upper ? v[k] : v[k + half], mask);
      v[k] = (upper ? v[k + half] : v[k]) + other;
    }
  }
  v[0] += ShuffleXor(v[0], 2);
  return v[0] + ShuffleXor(v[0], 1);
}

// Columns c .. c + 3 of stream `to` of token t, of the sub-layer behind.
template <class T>
__device__ inline Four JoinFour(const JoinCall<T>& call, int64_t t, int to, int c) {
  if (!call.y_post) return Load4(call.h.at(t, to) + c);
  Four r[kStreams];
#pragma unroll
  for (int j = 0; j < kStreams; ++j) r[j] = Load4(call.h.at(t, j) + c);
  const Four y = Load4(call.y.at(t) + c);
  const float post = call.y_post[t * call.y_post_stride + to];
  float comb[kStreams];
#pragma unroll
  for (int j = 0; j < kStreams; ++j) comb[j] = call.y_comb[(t * kStreams + j) * kStreams + to];
  Four u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kStreams; ++j) sum += comb[j] * r[j].v[i];
    u.v[i] = Rounded<T>(post * y.v[i] + sum);
  }
  SyncWarp();  // all lanes have read all streams
  Store4(call.h.at(t, to) + c, u);
  return u;
}

__device__ inline float Dot(const Four& a, const Four& b) {
  return a.v[0] * b.v[0] + a.v[1] * b.v[1] + a.v[2] * b.v[2] + a.v[3] * b.v[3];
}

template <class T>
__global__ void __launch_bounds__(kThreads) JoinKernel(JoinCall<T> call) {
  __shared__ float4 joined[kTokens][kWarp];
  const int slice = int(blockIdx.x), stream = Lane() / 8, c = slice * kSliceColumns + 4 * (Lane() % 8);
  LetSuccessorStart();
  Four w[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) w[i] = Load4(call.fn.at(kRows * Warp() + i) + stream * call.d + c);
  WaitForPredecessor();
  const int64_t first = int64_t(blockIdx.y) * kTokens, t = first + Warp();
  Four u = {};
  if (t < call.n) u = JoinFour(call, t, stream, c);
  joined[Warp()][Lane()] = float4{u.v[0], u.v[1], u.v[2], u.v[3]};
  __syncthreads();
  const float squares = WarpReduce(Dot(u, u));
  if (Lane() == 0 && t < call.n) *call.sums.at(t, slice, kMixCount) = squares;
  float sum[kRows][kTokens];
#pragma unroll
  for (int k = 0; k < kTokens; ++k) {
    const Four v = Load4(reinterpret_cast<const float*>(&joined[k][Lane()]));
#pragma unroll
    for (int i = 0; i < kRows; ++i) sum[i][k] = Dot(v, w[i]);
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const float total = SumOfTokens(sum[i]);
    const int64_t token = first + Lane() / 4;
    if (Lane() % 4 == 0 && token < call.n) *call.sums.at(token, slice, kRows * Warp() + i) = total;
  }
}

}  // namespace

Support HcBoundaryTwoPassSupports(const Context& ctx, const HcBoundary::Args& a) { return FinishSupports(ctx, a); }

Status HcBoundaryTwoPass(const Context& ctx, const HcBoundary::Args& a) {
  if (a.h.dim(0) == 0) return {};
  const int d = int(a.h.dim(2)), slices = d / kSliceColumns;
  WithElement(a.h.dtype(), [&](auto e) {
    using T = decltype(e);
    RunInParts<T>(ctx, a, slices, a.h.dim(0) > kFewTokens, [&](const HcBoundary::Args& part, const SliceSums& sums) {
      const int n = int(part.h.dim(0));
      const JoinCall<T> call{n,
                             d,
                             RowsOf<T>(part.y),
                             DataOf<float>(part.y_post),
                             DataOf<float>(part.y_comb),
                             part.y.empty() ? 0 : part.y_post.stride(0),
                             MutRowsOf<T>(part.h),
                             RowsOf<float>(part.fn),
                             sums};
      Launch(ctx, JoinKernel<T>, dim3(unsigned(slices), Blocks(n, kTokens)), kThreads, 0, call);
    });
  });
  return Launched(HcBoundary::kName);
}

Support HcBoundaryOpsSupports(const Context& ctx, const HcBoundary::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

Status HcBoundaryOps(const Context& ctx, const HcBoundary::Args& a) { return RunByOps(ctx, a); }

}  // namespace vexil::gpu
