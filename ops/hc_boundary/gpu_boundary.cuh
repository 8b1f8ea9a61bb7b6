// What the kernels of HcBoundary for 4 streams share. A call is two kernels:
//
//   join    h of the sub-layer behind, and of each slice of its columns, in all streams, the 24 products with fn and
//           the sum of squares ("sums"): spread over the chip, because fn is much larger than the streams of a token
//   finish  the slices' sums become the weights; mixture, norm and E4M3 codes by a block per token, whose row stays in
//           registers, while other blocks do Sinkhorn
//
// Floor for n tokens of V4-Flash: 1.6 MB (fn) + n times 32 KB (h) + 8 (y) + 32 (h) + 8 (x) + 4 (codes). Finish reads h
// again. The tokens go through both kernels a part at a time, so that what lies between these is not as large as h.
#pragma once

#include <algorithm>

#include "ops/hc_boundary/gpu_sinkhorn.cuh"
#include "ops/hc_boundary/hc_boundary.h"
#include "ops/hc_pre/gpu_mixes.cuh"
#include "ops/quantize_activation/gpu_block_scale.cuh"

namespace vexil::gpu {

inline constexpr int kStreams = 4, kMixCount = (2 + kStreams) * kStreams;
inline constexpr int kSums = kMixCount + 1;  // the last is the sum of squares
inline constexpr int kBlockColumns = 128;    // of E4M3 codes
inline constexpr int kMaxRow = 4096;         // columns that a block of `finish` holds
inline constexpr int kMaxSlices = 128;       // of a row
inline constexpr int kPartTokens = 8192;     // 64 MB of sums

// The two halves of BeginKernel(), for kernels that read weights, and nothing else, before they wait.
__device__ inline void LetSuccessorStart() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void WaitForPredecessor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Sum `j` of slice `s` of token `t` is at data[t * token + s * slice + j * sum].
struct SliceSums {
  float* data;
  int slices, token, slice, sum;
  __device__ float* at(int64_t t, int s, int j) const { return data + t * token + s * slice + j * sum; }
};

// Eight neighbouring elements as they are stored.
template <class T>
struct Eight;
template <>
struct Eight<BF16> {
  uint4 raw;
  __device__ float At(int i) const {
    const uint32_t pair = i < 2 ? raw.x : i < 4 ? raw.y : i < 6 ? raw.z : raw.w;
    return __uint_as_float(i % 2 ? pair & 0xffff0000u : pair << 16);
  }
};
template <>
struct Eight<float> {
  float4 low, high;
  __device__ float At(int i) const {
    const float4& f = i < 4 ? low : high;
    return i % 4 == 0 ? f.x : i % 4 == 1 ? f.y : i % 4 == 2 ? f.z : f.w;
  }
};
__device__ inline Eight<BF16> Load8(const BF16* p) { return {*reinterpret_cast<const uint4*>(p)}; }
__device__ inline Eight<float> Load8(const float* p) {
  return {reinterpret_cast<const float4*>(p)[0], reinterpret_cast<const float4*>(p)[1]};
}
// v rounded to T; a NaN stays one.
template <class T>
__device__ inline Eight<T> Pack8(const float (&v)[8]) {
  if constexpr (std::is_same_v<T, BF16>) {
    uint32_t pair[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#if defined(__CUDA_ARCH__)
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair[i]) : "f"(v[2 * i + 1]), "f"(v[2 * i]));
#else
      pair[i] = FromF32<BF16>(v[2 * i]).bits | uint32_t(FromF32<BF16>(v[2 * i + 1]).bits) << 16;
#endif
    }
    return {uint4{pair[0], pair[1], pair[2], pair[3]}};
  } else {
    return {float4{v[0], v[1], v[2], v[3]}, float4{v[4], v[5], v[6], v[7]}};
  }
}
__device__ inline void Store8(BF16* p, const Eight<BF16>& v) { *reinterpret_cast<uint4*>(p) = v.raw; }
__device__ inline void Store8(float* p, const Eight<float>& v) {
  reinterpret_cast<float4*>(p)[0] = v.low;
  reinterpret_cast<float4*>(p)[1] = v.high;
}
// The E4M3 codes of four numbers of at most 448 in magnitude, the first in the lowest byte; a NaN stays one.
__device__ inline uint32_t PackE4M3(float a, float b, float c, float d) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
  return low | uint32_t(high) << 16;
#else
  return F32ToE4M3(a) | uint32_t(F32ToE4M3(b)) << 8 | uint32_t(F32ToE4M3(c)) << 16 | uint32_t(F32ToE4M3(d)) << 24;
#endif
}

struct FinishCall {
  SliceSums sums;
  int n, d;
  const float *scale, *base, *norm;
  float norm_eps, hc_eps;
  int iterations;
  Rows<float> post;
  float* comb;
  Rows<uint8_t> codes, codes_scale;  // data null: none
};

// Slice s of sum j of token t, 0 where there is none. Always a load, so that many are on their way at once.
__device__ inline float SliceOrZero(const SliceSums& sums, int64_t t, int s, int j) {
  const float v = *sums.at(t, s < sums.slices ? s : 0, j);
  return s < sums.slices ? v : 0.0f;
}

// Sums j[0 .. kCount) of token t by a warp: lane l takes the slices l, l + 32, ..., then pairs of lanes.
template <int kCount>
__device__ inline void SumSlices(const SliceSums& s, int64_t t, const int (&j)[kCount], float (&sum)[kCount]) {
  float v[kCount][kMaxSlices / kWarp];
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
#pragma unroll
    for (int i = 0; i < kMaxSlices / kWarp; ++i) v[k][i] = SliceOrZero(s, t, i * kWarp + Lane(), j[k]);
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    sum[k] = 0;
#pragma unroll
    for (int i = 0; i < kMaxSlices / kWarp; ++i) sum[k] += v[k][i];
    sum[k] = WarpReduce(sum[k]);
  }
}

// The same bits by one lane, whose neighbours make other sums.
__device__ inline float SumSlicesAlone(const SliceSums& s, int64_t t, int j) {
  float lane[kWarp] = {};
  constexpr int kAtOnce = 16;
  for (int i = 0; i < s.slices; i += kWarp) {
#pragma unroll
    for (int first = 0; first < kWarp; first += kAtOnce) {
      float v[kAtOnce];
#pragma unroll
      for (int l = 0; l < kAtOnce; ++l) v[l] = SliceOrZero(s, t, i + first + l, j);
#pragma unroll
      for (int l = 0; l < kAtOnce; ++l) lane[first + l] += v[l];
    }
  }
#pragma unroll
  for (int half = 1; half < kWarp; half *= 2) {  // pairs at distance 16, 8, ..., 1
#pragma unroll
    for (int l = 0; l < kWarp / 2; ++l) {
      if (l < kWarp / 2 / half) lane[l] += lane[l + kWarp / 2 / half];
    }
  }
  return lane[0];
}

__device__ inline float InverseRms(const FinishCall& c, float squares) {
  return 1.0f / sqrtf(squares / float(kStreams * c.d) + c.norm_eps);
}

// post and comb of token t from its sums, by one lane. `scale` and `base` are those of the call, or copies.
__device__ inline void StreamWeights(const FinishCall& c, const float* scale, const float* base, int64_t t,
                                     const float* sums) {
  const float r = InverseRms(c, sums[kMixCount]);
  float comb[kStreams][kStreams];
#pragma unroll
  for (int j = 0; j < kStreams; ++j) {
#pragma unroll
    for (int k = 0; k < kStreams; ++k) {
      const int i = 2 * kStreams + j * kStreams + k;
      comb[j][k] = sums[i] * r * scale[2] + base[i];
    }
  }
  Sinkhorn4(comb, c.hc_eps, c.iterations);
#pragma unroll
  for (int j = 0; j < kStreams; ++j) {
    Store4(c.comb + (t * kStreams + j) * kStreams, Four{{comb[j][0], comb[j][1], comb[j][2], comb[j][3]}});
  }
#pragma unroll
  for (int s = 0; s < kStreams; ++s) {
    c.post.at(t)[s] = 2.0f * Sigmoid(sums[kStreams + s] * r * scale[1] + base[kStreams + s]);
  }
}

// Columns c .. c + 7 of a row in E4M3, by the 16 lanes that hold a block of it.
__device__ inline void Quantize8(const FinishCall& call, int64_t t, int c, const float (&v)[8]) {
  uint32_t max = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) max = Larger()(max, __float_as_uint(v[i]) & 0x7fffffffu);
#pragma unroll
  for (int mask = 1; mask < kBlockColumns / 8; mask *= 2) max = Larger()(max, ShuffleXor(max, mask));
  const uint8_t scale = ScaleCode(__uint_as_float(max), E4M3Rule());
  const float inverse = 1.0f / E8M0ToF32(scale);  // a power of two or NaN: the product is the exact quotient
  float q[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) q[i] = ClampTo(v[i] * inverse, E4M3Rule().max);
  if (c >= call.d) return;
  *reinterpret_cast<uint2*>(call.codes.at(t) + c) =
      uint2{PackE4M3(q[0], q[1], q[2], q[3]), PackE4M3(q[4], q[5], q[6], q[7])};
  if (c % kBlockColumns == 0) call.codes_scale.at(t)[c / kBlockColumns] = scale;
}

// What a thread needs to make its columns of a row.
template <int kChunks>
struct RowWeights {
  float scale, base[kStreams];
  Eight<float> norm[kChunks];
};
// Column 8 * (thread + k * threads) begins piece k of a thread.
template <int kChunks>
__device__ inline int ColumnOf(int k) {
  return 8 * (int(threadIdx.x) + k * (kMaxRow / 8 / kChunks));
}
template <int kChunks>
__device__ inline RowWeights<kChunks> LoadRowWeights(const FinishCall& c) {
  RowWeights<kChunks> w;
  w.scale = c.scale[0];
#pragma unroll
  for (int s = 0; s < kStreams; ++s) w.base[s] = c.base[s];
#pragma unroll
  for (int k = 0; k < kChunks; ++k) {
    if (ColumnOf<kChunks>(k) < c.d) w.norm[k] = Load8(c.norm + ColumnOf<kChunks>(k));
  }
  return w;
}

// A block makes a row, in kChunks times kThreads pieces of 8 columns; their product is always the same, and so is the
// order of every sum.
template <class T, int kChunks>
__device__ inline void MixNormQuantize(const FinishCall& c, const RowWeights<kChunks>& w, int64_t t,
                                       const Rows<const T>& h, T* x) {
  constexpr int kThreads = kMaxRow / 8 / kChunks, kWarps = kThreads / kWarp;
  __shared__ float sums[kStreams + 1], partial[kMaxRow / 8 / kWarp];
  const auto column = [](int k) { return ColumnOf<kChunks>(k); };
  Eight<T> streams[kChunks][kStreams];
#pragma unroll
  for (int k = 0; k < kChunks; ++k) {
#pragma unroll
    for (int s = 0; s < kStreams; ++s) {
      if (column(k) < c.d) streams[k][s] = Load8(h.at(t, s) + column(k));
    }
  }
  if (Warp() <= kStreams) {
    float sum[1];
    SumSlices(c.sums, t, {Warp() < kStreams ? Warp() : kMixCount}, sum);
    if (Lane() == 0) sums[Warp()] = sum[0];
  }
  __syncthreads();
  const float r = InverseRms(c, sums[kStreams]);
  float pre[kStreams];
#pragma unroll
  for (int s = 0; s < kStreams; ++s) pre[s] = Sigmoid(sums[s] * r * w.scale + w.base[s]) + c.hc_eps;
  float v[kChunks][8];
#pragma unroll
  for (int k = 0; k < kChunks; ++k) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[k][i] = 0;
#pragma unroll
      for (int s = 0; s < kStreams; ++s) v[k][i] += pre[s] * streams[k][s].At(i);
    }
    const Eight<T> mixed = Pack8<T>(v[k]);
    float squares = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[k][i] = column(k) < c.d ? mixed.At(i) : 0.0f;
      squares += v[k][i] * v[k][i];
    }
    squares = WarpReduce(squares);
    if (Lane() == 0) partial[Warp() + k * kWarps] = squares;
  }
  __syncthreads();
  const float squares = WarpReduce(Lane() < kWarps * kChunks ? partial[Lane()] : 0.0f);
  const float scale = 1.0f / sqrtf(squares / float(c.d) + c.norm_eps);
#pragma unroll
  for (int k = 0; k < kChunks; ++k) {
    if (column(k) < c.d) {
#pragma unroll
      for (int i = 0; i < 8; ++i) v[k][i] = w.norm[k].At(i) * (v[k][i] * scale);
      const Eight<T> normed = Pack8<T>(v[k]);
      Store8(x + column(k), normed);
#pragma unroll
      for (int i = 0; i < 8; ++i) v[k][i] = normed.At(i);
    }
    if (c.codes.data) Quantize8(c, t, column(k), v[k]);
  }
}

// Few tokens: blocks (t, 0) make the weights of token t, blocks (t, 1) its row. A sum's slices are neighbours.
template <class T>
__global__ void __launch_bounds__(kMaxRow / 8) FinishFew(FinishCall c, Rows<const T> h, Rows<T> x) {
  __shared__ float sums[kWarp];
  LetSuccessorStart();
  const int64_t t = blockIdx.x;
  if (blockIdx.y == 1) {
    const RowWeights<1> w = LoadRowWeights<1>(c);
    WaitForPredecessor();
    return MixNormQuantize<T, 1>(c, w, t, h, x.at(t));
  }
  __shared__ float scale[3], base[kMixCount];
  if (threadIdx.x < 3) scale[threadIdx.x] = c.scale[threadIdx.x];
  if (threadIdx.x < kMixCount) base[threadIdx.x] = c.base[threadIdx.x];
  WaitForPredecessor();
  // Warp w makes an element of comb; the first ones the sum of squares and post, too.
  const int j[2] = {2 * kStreams + Warp(), Warp() == 0 ? kMixCount : kStreams - 1 + Warp()};
  float sum[2];
  SumSlices(c.sums, t, j, sum);
  if (Lane() == 0) {
    sums[j[0]] = sum[0];
    if (Warp() <= kStreams) sums[j[1]] = sum[1];
  }
  __syncthreads();
  if (threadIdx.x == 0) StreamWeights(c, scale, base, t, sums);
}

// Many tokens: the first blocks make the weights of 8 tokens, the others a row each. A slice's sums are neighbours.
inline constexpr int kManyThreads = 256, kWeightTokens = kManyThreads / kWarp;
template <class T>
__global__ void __launch_bounds__(kManyThreads, 3) FinishMany(FinishCall c, Rows<const T> h, Rows<T> x) {
  __shared__ float sums[kWeightTokens][kSums];
  BeginKernel();
  const int weight_blocks = (c.n + kWeightTokens - 1) / kWeightTokens, block = int(blockIdx.x);
  if (block >= weight_blocks) {
    constexpr int kChunks = kMaxRow / 8 / kManyThreads;
    const int64_t t = block - weight_blocks;
    return MixNormQuantize<T, kChunks>(c, LoadRowWeights<kChunks>(c), t, h, x.at(t));
  }
  const int first = block * kWeightTokens, tokens = c.n - first < kWeightTokens ? c.n - first : kWeightTokens;
  if (Warp() < tokens && Lane() < kSums) sums[Warp()][Lane()] = SumSlicesAlone(c.sums, first + Warp(), Lane());
  __syncthreads();
  if (int(threadIdx.x) < tokens) StreamWeights(c, c.scale, c.base, first + int(threadIdx.x), sums[threadIdx.x]);
}

// Whether `finish` takes a call: 4 streams whose rows fit and can be read in pieces of 8.
inline Support FinishSupports(const Context& ctx, const HcBoundary::Args& a) {
  const auto fits8 = [](const TensorView& v) {
    bool fits = reinterpret_cast<uintptr_t>(v.raw()) % 16 == 0;
    for (int i = 0; i + 1 < v.rank(); ++i) fits = fits && v.stride(i) * BytesOf(v.dtype()) % 16 == 0;
    return fits;
  };
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.h.dim(1) == kStreams, "4 streams only");
  VX_REQUIRE(a.h.dim(2) % kBlockColumns == 0 && a.h.dim(2) <= kMaxRow, "D must be a multiple of 128, at most 4096");
  VX_REQUIRE(a.norm.dtype() == DType::kF32, "norm must be F32");
  VX_REQUIRE(a.hc_eps >= kLeastSinkhornEps, "hc_eps must be at least 1e-7");
  VX_REQUIRE(fits8(a.h) && fits8(a.fn) && fits8(a.x) && fits8(a.norm), "rows must begin at multiples of 16 bytes");
  VX_REQUIRE(a.y.empty() || fits8(a.y), "rows must begin at multiples of 16 bytes");
  VX_REQUIRE(FitsLoad4(a.comb), "comb must be aligned");
  VX_REQUIRE(a.y.empty() || (FitsLoad4(a.y_post) && FitsLoad4(a.y_comb)), "y_post and y_comb must be aligned");
  VX_REQUIRE(a.codes.empty() || a.block == kBlockColumns, "a block must have 128 columns");
  VX_REQUIRE(a.codes.empty() || (reinterpret_cast<uintptr_t>(a.codes.raw()) % 8 == 0 && a.codes.stride(0) % 8 == 0),
             "codes must begin at multiples of 8 bytes");
  return {};
}

inline HcBoundary::Args TokensOf(const HcBoundary::Args& a, int64_t begin, int64_t end) {
  HcBoundary::Args part = a;
  if (!a.y.empty()) {
    part.y = a.y.Rows(begin, end);
    part.y_post = a.y_post.Rows(begin, end);
    part.y_comb = a.y_comb.Rows(begin, end);
  }
  part.h = a.h.Rows(begin, end);
  part.post = a.post.Rows(begin, end);
  part.comb = a.comb.Rows(begin, end);
  part.x = a.x.Rows(begin, end);
  if (!a.codes.empty()) {
    part.codes = a.codes.Rows(begin, end);
    part.codes_scale = a.codes_scale.Rows(begin, end);
  }
  return part;
}

// Both kernels for all tokens, a part at a time; join(part of the call, sums) launches the first one.
template <class T, class Join>
void RunInParts(const Context& ctx, const HcBoundary::Args& a, int slices, bool many, const Join& join) {
  constexpr int kSumStride = 32;  // of a slice, for many tokens
  const int64_t n = a.h.dim(0);
  const int token = slices * (many ? kSumStride : kSums);
  const Arena::Scope scope(*ctx.workspace);
  float* data = ctx.workspace->Allocate<float>(std::min<int64_t>(n, kPartTokens) * token);
  const SliceSums sums{data, slices, token, many ? kSumStride : 1, many ? 1 : slices};
  for (int64_t begin = 0; begin < n; begin += kPartTokens) {
    const HcBoundary::Args part = TokensOf(a, begin, std::min(begin + kPartTokens, n));
    join(part, sums);
    const int count = int(part.h.dim(0));
    const FinishCall call{sums,
                          count,
                          int(a.h.dim(2)),
                          DataOf<float>(a.scale),
                          DataOf<float>(a.base),
                          DataOf<float>(a.norm),
                          a.norm_eps,
                          a.hc_eps,
                          a.sinkhorn_iters,
                          MutRowsOf<float>(part.post),
                          MutDataOf<float>(part.comb),
                          MutRowsOf<uint8_t>(part.codes),
                          MutRowsOf<uint8_t>(part.codes_scale)};
    if (many) {
      const unsigned blocks = Blocks(count, kWeightTokens) + unsigned(count);
      Launch(ctx, FinishMany<T>, blocks, kManyThreads, 0, call, RowsOf<T>(part.h), MutRowsOf<T>(part.x));
    } else {
      Launch(ctx, FinishFew<T>, dim3(unsigned(count), 2), kMaxRow / 8, 0, call, RowsOf<T>(part.h),
             MutRowsOf<T>(part.x));
    }
  }
}

}  // namespace vexil::gpu
