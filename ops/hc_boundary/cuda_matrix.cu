// Join for many tokens in BF16, of 4 streams, on tensor cores: a block takes 64 columns of all streams and 256 tokens,
// a warp 16 of these. What a lane has joined in its registers is the left operand of m16n8k16 as it is, for the order
// of the columns within a product is free: lane l holds 8 neighbouring columns of tokens l / 4 and l / 4 + 8, four for
// each of two products. fn stands in shared memory in the order of the right operand, as three BF16 terms whose sum is
// its F32 value; products are exact, sums F32. Bytes moved: h twice and y once, fn once per block from the
// second-level cache.
#include "ops/cuda/glue.h"
#include "ops/cuda/hopper.cuh"
#include "ops/hc_boundary/gpu_boundary.cuh"

namespace vexil::gpu {
namespace {

constexpr int kThreads = 512, kWarpTokens = 16, kTokens = kWarpTokens * kThreads / kWarp;
constexpr int kSliceColumns = 64, kStepColumns = 32, kSteps = kSliceColumns / kStepColumns;
constexpr int kTiles = kMixCount / 8, kTerms = 3;
constexpr int kFewTokens = 64;  // up to here the matrix products leave the tensor cores, too

struct MatrixCall {
  int n, d;
  Rows<const BF16> y;
  const float *y_post, *y_comb;  // [n, 4], [n, 4, 4]; null: h stays as it is
  int64_t y_post_stride;
  Rows<BF16> h;
  Rows<const float> fn;
  SliceSums sums;
};

// The right operands of the two products over 8 columns of a lane.
using Fragments = uint4[kStreams][kSteps][kTiles][kTerms][kWarp];

// f as a sum of three BF16 numbers, the largest first; exact but for what is below the smallest normal number.
__device__ inline void Split(float f, float (&term)[kTerms]) {
#pragma unroll
  for (int i = 0; i < kTerms; ++i) {
    term[i] = cuda::RoundToBF16(f);
    f -= term[i];
  }
}

__device__ inline void LoadFragments(const MatrixCall& call, int first_column, Fragments& to) {
  for (int i = int(threadIdx.x); i < kStreams * kSteps * kTiles * kWarp; i += kThreads) {
    const int lane = i % kWarp, tile = i / kWarp % kTiles, step = i / kWarp / kTiles % kSteps;
    const int stream = i / kWarp / kTiles / kSteps;
    const Eight<float> f = Load8(call.fn.at(8 * tile + lane / 4) + int64_t(stream) * call.d + first_column +
                                 step * kStepColumns + 8 * (lane % 4));
    float terms[8][kTerms];
#pragma unroll
    for (int k = 0; k < 8; ++k) Split(f.At(k), terms[k]);
#pragma unroll
    for (int t = 0; t < kTerms; ++t) {
      to[stream][step][tile][t][lane] =
          uint4{cuda::PackBF16(terms[0][t], terms[1][t]), cuda::PackBF16(terms[2][t], terms[3][t]),
                cuda::PackBF16(terms[4][t], terms[5][t]), cuda::PackBF16(terms[6][t], terms[7][t])};
    }
  }
}

// How the output of the sub-layer before joins the streams of a token.
struct TokenWeights {
  float post[kStreams], comb[kStreams][kStreams];
};
__device__ inline TokenWeights LoadTokenWeights(const MatrixCall& call, int64_t t) {
  TokenWeights w;
  const Four post = Load4(call.y_post + t * call.y_post_stride);
#pragma unroll
  for (int j = 0; j < kStreams; ++j) {
    const Four comb = Load4(call.y_comb + (t * kStreams + j) * kStreams);
    w.post[j] = post.v[j];
#pragma unroll
    for (int k = 0; k < kStreams; ++k) w.comb[j][k] = comb.v[k];
  }
  return w;
}

// 8 columns of a token, as they are before.
struct TokenColumns {
  Eight<BF16> y, h[kStreams];
};

// The same columns of stream k of the sub-layer behind.
__device__ inline uint4 Joined(const TokenColumns& c, const TokenWeights& w, int k) {
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kStreams; ++j) sum += w.comb[j][k] * c.h[j].At(i);
    v[i] = w.post[k] * c.y.At(i) + sum;
  }
  return {cuda::PackBF16(v[0], v[1]), cuda::PackBF16(v[2], v[3]), cuda::PackBF16(v[4], v[5]),
          cuda::PackBF16(v[6], v[7])};
}

__device__ inline float SumOfSquares(uint4 raw) {
  const Eight<BF16> v{raw};
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += v.At(i) * v.At(i);
  return sum;
}

// The products of a warp's tokens with fn and their sums of squares: rows and columns as the instruction has them.
struct WarpSums {
  float products[kTiles][4], squares[2];
};

__device__ inline void StoreSums(const MatrixCall& call, int slice, const int64_t (&row)[2], WarpSums& s) {
  const int quad = Lane() % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    s.squares[i] += ShuffleXor(s.squares[i], 1);
    s.squares[i] += ShuffleXor(s.squares[i], 2);
    if (row[i] >= call.n) continue;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      *reinterpret_cast<float2*>(call.sums.at(row[i], slice, 8 * tile + 2 * quad)) =
          float2{s.products[tile][2 * i], s.products[tile][2 * i + 1]};
    }
    if (quad == 0) *call.sums.at(row[i], slice, kMixCount) = s.squares[i];
  }
}

struct Shared {
  Fragments fragments;
  uint4 columns[kSteps][2 * (1 + kStreams)][kThreads];  // what each thread reads next: of two tokens h and y
};

// A block takes its slice of the tokens of every gridDim.y-th 256. While a thread works on 32 columns of two tokens,
// its next 64 are on their way.
template <bool kJoin>
__global__ void __launch_bounds__(kThreads) JoinMatrix(MatrixCall call) {
  extern __shared__ __align__(16) uint8_t memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const int slice = int(blockIdx.x), thread = int(threadIdx.x);
  LetSuccessorStart();
  LoadFragments(call, slice * kSliceColumns, shared.fragments);
  WaitForPredecessor();
  __syncthreads();
  const auto row_of = [&](int item, int i) {
    return (int64_t(blockIdx.y) + item / kSteps * int64_t(gridDim.y)) * kTokens + Warp() * kWarpTokens + Lane() / 4 +
           8 * i;
  };
  const auto column_of = [&](int item) {
    return slice * kSliceColumns + item % kSteps * kStepColumns + 8 * (Lane() % 4);
  };
  const auto fetch = [&](int item) {
    const int c = column_of(item);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t row = row_of(item, i), t = row < call.n ? row : call.n - 1;  // beyond the last: read, not written
#pragma unroll
      for (int s = 0; s < kStreams; ++s) {
        cuda::CopyAsync16(cuda::SharedAddress(&shared.columns[item % kSteps][i * (1 + kStreams) + s][thread]),
                          call.h.at(t, s) + c);
      }
      if constexpr (kJoin) {
        cuda::CopyAsync16(cuda::SharedAddress(&shared.columns[item % kSteps][i * (1 + kStreams) + kStreams][thread]),
                          call.y.at(t) + c);
      }
    }
  };
  const auto has = [&](int item) { return row_of(item, 0) - Lane() / 4 < call.n; };  // the same for all lanes
  WarpSums sums = {};
#pragma unroll
  for (int item = 0; item < kSteps; ++item) {
    if (has(item)) fetch(item);
    cuda::CopyAsyncCommit();
  }
#pragma unroll 1
  for (int item = 0; has(item); ++item) {
    TokenWeights weights[2];
    if constexpr (kJoin) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int64_t row = row_of(item, i);
        weights[i] = LoadTokenWeights(call, row < call.n ? row : call.n - 1);
      }
    }
    cuda::CopyAsyncWait<kSteps - 1>();
    TokenColumns columns[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int s = 0; s < kStreams; ++s)
        columns[i].h[s].raw = shared.columns[item % kSteps][i * (1 + kStreams) + s][thread];
      if constexpr (kJoin) columns[i].y.raw = shared.columns[item % kSteps][i * (1 + kStreams) + kStreams][thread];
    }
    if (has(item + kSteps)) fetch(item + kSteps);
    cuda::CopyAsyncCommit();
    const int c = column_of(item);
    uint4 a[2][kStreams];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (kJoin) {
        const int64_t row = row_of(item, i);
#pragma unroll
        for (int s = 0; s < kStreams; ++s) {
          a[i][s] = Joined(columns[i], weights[i], s);
          if (row < call.n) *reinterpret_cast<uint4*>(call.h.at(row, s) + c) = a[i][s];
        }
      } else {
#pragma unroll
        for (int s = 0; s < kStreams; ++s) a[i][s] = columns[i].h[s].raw;
      }
#pragma unroll
      for (int s = 0; s < kStreams; ++s) sums.squares[i] += SumOfSquares(a[i][s]);
    }
#pragma unroll
    for (int s = 0; s < kStreams; ++s) {
#pragma unroll
      for (int term = kTerms - 1; term >= 0; --term) {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const uint4 b = shared.fragments[s][item % kSteps][tile][term][Lane()];
          cuda::MmaBF16(sums.products[tile], a[0][s].x, a[1][s].x, a[0][s].y, a[1][s].y, b.x, b.y);
          cuda::MmaBF16(sums.products[tile], a[0][s].z, a[1][s].z, a[0][s].w, a[1][s].w, b.z, b.w);
        }
      }
    }
    if (item % kSteps == kSteps - 1) {
      StoreSums(call, slice, {row_of(item, 0), row_of(item, 1)}, sums);
      sums = {};
    }
  }
}

}  // namespace

Support HcBoundaryMatrixSupports(const Context& ctx, const HcBoundary::Args& a) {
  VX_REQUIRE(IsHopper(ctx), "needs a Hopper GPU");
  VX_REQUIRE(a.h.dtype() == DType::kBF16, "h must be BF16");
  VX_REQUIRE(a.h.dim(0) > kFewTokens, "few tokens");
  return FinishSupports(ctx, a);
}

Status HcBoundaryMatrix(const Context& ctx, const HcBoundary::Args& a) {
  const int d = int(a.h.dim(2)), slices = d / kSliceColumns;
  RunInParts<BF16>(ctx, a, slices, true, [&](const HcBoundary::Args& part, const SliceSums& sums) {
    const int n = int(part.h.dim(0));
    const bool join = !part.y.empty();
    const MatrixCall call{n,
                          d,
                          RowsOf<BF16>(part.y),
                          DataOf<float>(part.y_post),
                          DataOf<float>(part.y_comb),
                          join ? part.y_post.stride(0) : 0,
                          MutRowsOf<BF16>(part.h),
                          RowsOf<float>(part.fn),
                          sums};
    // As many blocks as run at once.
    const auto kernel = join ? JoinMatrix<true> : JoinMatrix<false>;
    const unsigned most = unsigned(std::max(1, ctx.accelerator->caps().multiprocessors / slices));
    AllowShared(kernel, sizeof(Shared));
    Launch(ctx, kernel, dim3(unsigned(slices), std::min(most, Blocks(n, kTokens))), kThreads, sizeof(Shared), call);
  });
  return Launched(HcBoundary::kName);
}

}  // namespace vexil::gpu
