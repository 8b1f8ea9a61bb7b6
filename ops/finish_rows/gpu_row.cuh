// A row in the registers of 32 lanes, and the steps of FinishRows on it.
#pragma once

#include <cmath>

#include "ops/finish_rows/finish_rows.h"
#include "ops/quantize_activation/gpu_block_scale.cuh"

namespace vexil::gpu {

// The steps as kernels take them; where the row comes from and goes to is theirs.
struct RowSteps {
  FinishRows::Norm norm;
  bool weight_is_f32, inverse, hadamard, to_e4m3;
  int pairs, block, rounded;
  float eps, hadamard_factor;
  const void* weight;
  const float* freqs;
};

// N neighbouring elements, aligned to all of them or to 16 bytes.
template <int N>
__device__ inline void LoadElements(const float* p, float (&v)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    const float4 a = *reinterpret_cast<const float4*>(p + i);
    v[i] = a.x, v[i + 1] = a.y, v[i + 2] = a.z, v[i + 3] = a.w;
  }
}
__device__ inline void LoadElements(const BF16* p, float (&v)[4]) {
  const Four a = Load4(p);
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = a.v[i];
}
__device__ inline void LoadElements(const BF16* p, float (&v)[8]) {
  const uint4 a = *reinterpret_cast<const uint4*>(p);
  const uint32_t words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16);
    v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
template <int N>
__device__ inline void StoreElements(float* p, const float (&v)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4) *reinterpret_cast<float4*>(p + i) = float4{v[i], v[i + 1], v[i + 2], v[i + 3]};
}
__device__ inline void StoreElements(BF16* p, const float (&v)[4]) { Store4(p, {{v[0], v[1], v[2], v[3]}}); }
__device__ inline void StoreElements(BF16* p, const float (&v)[8]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = FromF32<BF16>(v[2 * i]).bits | uint32_t(FromF32<BF16>(v[2 * i + 1]).bits) << 16;
  }
  *reinterpret_cast<uint4*>(p) = uint4{words[0], words[1], words[2], words[3]};
}

// The (cosine, sine) of each pair at a position, by one warp.
__device__ inline void FillRotation(const RowSteps& s, int32_t position, float2* rotation) {
  for (int i = Lane(); i < s.pairs; i += kWarp) {
    const float angle = float(position) * s.freqs[i];
    double sine, cosine;
    sincos(double(angle), &sine, &cosine);
    rotation[i] = float2{float(cosine), s.inverse ? -float(sine) : float(sine)};
  }
}

// V * C channels per lane: lane l holds the channels (32 j + l) * V .. + V for j < C.
template <class T, int V, int C>
class WarpRow {
 public:
  static constexpr int kWidth = kWarp * V * C;

  __device__ void Load(const T* row) {
#pragma unroll
    for (int j = 0; j < C; ++j) LoadElements(row + Channel(j), v_[j]);
  }
  __device__ void Store(T* row) const {
#pragma unroll
    for (int j = 0; j < C; ++j) StoreElements(row + Channel(j), v_[j]);
  }
  __device__ void Norm(const RowSteps& s) {
    if (s.norm == FinishRows::Norm::kHead) {
      NormHead(s.eps);
    } else if (s.norm == FinishRows::Norm::kWeighted) {
      s.weight_is_f32 ? NormWeighted(static_cast<const float*>(s.weight), s.eps)
                      : NormWeighted(static_cast<const BF16*>(s.weight), s.eps);
    }
  }
  // All steps behind the norm.
  __device__ void RotateAndRound(const RowSteps& s, const float2* rotation) {
    if (s.pairs > 0) Rotate(rotation, s.pairs);
    if (s.hadamard) Hadamard(s.hadamard_factor);
    if (s.rounded > 0) s.to_e4m3 ? Round<true>(s.block, s.rounded) : Round<false>(s.block, s.rounded);
  }

 private:
  __device__ static int Channel(int j) { return (j * kWarp + Lane()) * V; }

  // The sum of f(x) over the row.
  template <class F>
  __device__ float Sum(F f) const {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < C; ++j) {
#pragma unroll
      for (int i = 0; i < V; ++i) sum += f(v_[j][i]);
    }
    return WarpReduce(sum);
  }
  __device__ void NormHead(float eps) {
    float m = Rounded<T>(Sum([](float x) { return Rounded<T>(__fmul_rn(x, x)); }) / float(kWidth));
    m = Rounded<T>(m + eps);
    const float r = Rounded<T>(1.0f / sqrtf(m));
#pragma unroll
    for (int j = 0; j < C; ++j) {
#pragma unroll
      for (int i = 0; i < V; ++i) v_[j][i] = Rounded<T>(v_[j][i] * r);
    }
  }
  template <class W>
  __device__ void NormWeighted(const W* weight, float eps) {
    const float scale = 1.0f / sqrtf(Sum([](float x) { return x * x; }) / float(kWidth) + eps);
#pragma unroll
    for (int j = 0; j < C; ++j) {
      float w[V];
      LoadElements(weight + Channel(j), w);
#pragma unroll
      for (int i = 0; i < V; ++i) v_[j][i] = Rounded<T>(w[i] * (v_[j][i] * scale));
    }
  }
  __device__ void Rotate(const float2* rotation, int pairs) {
#pragma unroll
    for (int j = 0; j < C; ++j) {
      const int first = Channel(j) - (kWidth - 2 * pairs);  // of the rotated channels
#pragma unroll
      for (int i = 0; i < V; i += 2) {
        if (first + i < 0) continue;
        const float2 r = rotation[(first + i) / 2];
        const float a = v_[j][i], b = v_[j][i + 1];
        v_[j][i] = Rounded<T>(a * r.x - b * r.y);
        v_[j][i + 1] = Rounded<T>(a * r.y + b * r.x);
      }
    }
  }
  __device__ static void Butterfly(float& a, float& b) {
    const float sum = a + b;
    b = a - b;
    a = sum;
  }
  __device__ void Hadamard(float factor) {
#pragma unroll
    for (int j = 0; j < C; ++j) {
#pragma unroll
      for (int distance = 1; distance < V; distance *= 2) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          if ((i & distance) == 0) Butterfly(v_[j][i], v_[j][i + distance]);
        }
      }
#pragma unroll
      for (int mask = 1; mask < kWarp; mask *= 2) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const float other = ShuffleXor(v_[j][i], mask);
          v_[j][i] = (Lane() & mask) != 0 ? other - v_[j][i] : v_[j][i] + other;
        }
      }
    }
#pragma unroll
    for (int distance = 1; distance < C; distance *= 2) {
#pragma unroll
      for (int j = 0; j < C; ++j) {
#pragma unroll
        for (int i = 0; i < V && (j & distance) == 0; ++i) Butterfly(v_[j][i], v_[j + distance][i]);
      }
    }
#pragma unroll
    for (int j = 0; j < C; ++j) {
#pragma unroll
      for (int i = 0; i < V; ++i) v_[j][i] = Rounded<T>(v_[j][i] * factor);
    }
  }
  // A block of channels is held by block / V neighbouring lanes.
  template <bool kE4M3>
  __device__ void Round(int block, int rounded) {
    const ScaleRule rule = kE4M3 ? E4M3Rule() : E2M1Rule();
#pragma unroll
    for (int j = 0; j < C; ++j) {
      const int count = rounded - Channel(j);  // of this lane's channels
      uint32_t max = 0;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const uint32_t bits = __float_as_uint(v_[j][i]) & 0x7fffffffu;  // as in AbsMax()
        if (i < count && bits > max) max = bits;
      }
      for (int mask = 1; mask < block / V; mask *= 2) max = Larger()(max, ShuffleXor(max, mask));
      const float scale = E8M0ToF32(ScaleCode(__uint_as_float(max), rule)), inverse = 1.0f / scale;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (i >= count) continue;
        const float clamped = ClampTo(v_[j][i] * inverse, rule.max);
        v_[j][i] = Rounded<T>((kE4M3 ? E4M3ToF32(F32ToE4M3(clamped)) : RoundToE2M1(clamped)) * scale);
      }
    }
  }

  float v_[C][V];
};

// The widths that kernels hold in registers: V4-Flash's heads and index heads.
inline constexpr int kWideRow = 512, kNarrowRow = 128;
template <class T>
using WideRow = WarpRow<T, 8, 2>;
template <class T>
using NarrowRow = WarpRow<T, 4, 1>;

// Whether the steps of a set can be done on such a row.
inline Support SupportsWarpRow(const FinishRows::Set& s) {
  const int64_t d = s.x.dim(2), lane = d == kWideRow ? 8 : 4;
  VX_REQUIRE(d == kWideRow || d == kNarrowRow, "rows must have 512 or 128 channels");
  VX_REQUIRE(s.norm != FinishRows::Norm::kWeighted || reinterpret_cast<uintptr_t>(s.weight.raw()) % 16 == 0,
             "the weight is not aligned to 16 bytes");
  const int64_t lanes = s.block / lane;
  VX_REQUIRE(s.rounded == 0 || (s.block % lane == 0 && lanes <= kWarp && (lanes & (lanes - 1)) == 0),
             "blocks must be 1, 2, 4, ..., 32 lanes");
  return {};
}
inline RowSteps StepsOf(const FinishRows::Set& s) {
  return {s.norm,
          s.weight.dtype() == DType::kF32,
          s.inverse,
          s.hadamard,
          s.format == FakeQuantize::Format::kE4M3,
          s.freqs.empty() ? 0 : int(s.freqs.dim(0)),
          int(s.block),
          int(s.rounded),
          s.eps,
          float(1.0 / std::sqrt(double(s.x.dim(2)))),
          s.weight.raw(),
          DataOf<float>(s.freqs)};
}

}  // namespace vexil::gpu
