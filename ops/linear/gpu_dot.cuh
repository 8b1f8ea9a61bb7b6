// The inner products of the GPU kernels of Linear and GroupedLinear that serve every format.
//
// A warp owns one column of y (a row of w) for up to R rows of x. Lane l takes the chunks of 8 elements l, l + 32, ...
// of K in ascending order, decodes w once for its R rows and adds with f32 FMAs; the lanes are added at distances 16,
// 8, ..., 1. The order depends on K alone, so a row's bits do not depend on R or on what it is batched with.
#pragma once

#include "ops/gpu_kernel.cuh"
#include "ops/linear/operands.h"

namespace vexil::gpu {

inline constexpr int kChunk = 8;

// The codes and scales of one operand. Scales are E8M0 per `block_cols` columns (E4M3, E2M1), or one float or BF16 per
// row (I8).
struct Operand {
  const uint8_t* data;   // rows of `row_bytes`
  const uint8_t* scale;  // null: none
  int64_t row_bytes, scale_row_bytes;
  DType dtype, scale_dtype;
  int block_rows, block_cols;  // powers of two or larger than the operand
  bool aligned;                // every chunk of 8 elements is aligned to its own size
};

inline Operand OperandOf(const QuantView& q) {
  const int64_t element = BytesOf(q.data.dtype());
  Operand o;
  o.data = static_cast<const uint8_t*>(q.data.raw());
  o.scale = static_cast<const uint8_t*>(q.scale.raw());
  o.row_bytes = q.data.stride(0) * element;
  o.scale_row_bytes = q.scale.rank() == 2 ? q.scale.stride(0) : BytesOf(q.scale.dtype());
  o.dtype = q.data.dtype();
  o.scale_dtype = q.scale.dtype();
  o.block_rows = int(q.block_rows);
  o.block_cols = int(q.block_cols);
  const int64_t chunk = q.data.dtype() == DType::kE2M1x2 ? 4 : kChunk * element, unit = chunk > 16 ? 16 : chunk;
  o.aligned = reinterpret_cast<uintptr_t>(q.data.raw()) % uint64_t(unit) == 0 && o.row_bytes % unit == 0;
  return o;
}

// 8 elements, or fewer at the end of the row (the rest 0), before scaling. `column` is a multiple of 8.
template <DType kType>
__device__ inline void LoadCodes(const uint8_t* row, int column, int left, bool aligned, float (&v)[kChunk]) {
  const bool whole = aligned && left >= kChunk;
  if constexpr (kType == DType::kF32) {
    const float* p = reinterpret_cast<const float*>(row) + column;
    if (whole) {
      const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
      v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
      return;
    }
    for (int i = 0; i < kChunk; ++i) v[i] = i < left ? p[i] : 0.0f;
  } else if constexpr (kType == DType::kBF16 || kType == DType::kF16) {
    using E = std::conditional_t<kType == DType::kBF16, BF16, F16>;
    const uint16_t* p = reinterpret_cast<const uint16_t*>(row) + column;
    uint16_t bits[kChunk];
    if (whole) {
      const uint4 a = *reinterpret_cast<const uint4*>(p);
      const uint32_t words[4] = {a.x, a.y, a.z, a.w};
      for (int i = 0; i < kChunk; ++i) bits[i] = uint16_t(words[i / 2] >> (i % 2 * 16));
    } else {
      for (int i = 0; i < kChunk; ++i) bits[i] = i < left ? p[i] : uint16_t(0);
    }
    for (int i = 0; i < kChunk; ++i) {
      E e;
      e.bits = bits[i];
      v[i] = ToF32(e);
    }
  } else if constexpr (kType == DType::kE2M1x2) {
    const uint8_t* p = row + column / 2;
    uint32_t codes = 0;
    if (whole) {
      codes = *reinterpret_cast<const uint32_t*>(p);
    } else {
      for (int i = 0; i < kChunk / 2; ++i) codes |= 2 * i < left ? uint32_t(p[i]) << (8 * i) : 0u;
    }
    for (int i = 0; i < kChunk; ++i) v[i] = E2M1ToF32(codes >> (4 * i));
  } else {
    const uint8_t* p = row + column;
    uint32_t words[2] = {};
    if (whole) {
      const uint2 a = *reinterpret_cast<const uint2*>(p);
      words[0] = a.x, words[1] = a.y;
    } else {
      for (int i = 0; i < kChunk; ++i) words[i / 4] |= i < left ? uint32_t(p[i]) << (i % 4 * 8) : 0u;
    }
    for (int i = 0; i < kChunk; ++i) {
      const uint32_t b = words[i / 4] >> (i % 4 * 8) & 0xffu;
      v[i] = kType == DType::kI8 ? float(int8_t(b)) : E4M3ToF32(b);
    }
  }
}

__device__ inline float BlockScale(const Operand& o, int64_t row, int column) {
  return E8M0ToF32(o.scale[row / o.block_rows * o.scale_row_bytes + column / o.block_cols]);
}

// 8 elements of row `row` of x as f32.
__device__ inline void LoadInput(const Operand& x, int64_t row, int column, int left, float (&v)[kChunk]) {
  const uint8_t* data = x.data + row * x.row_bytes;
  if (x.dtype == DType::kF32) {
    LoadCodes<DType::kF32>(data, column, left, x.aligned, v);
  } else if (x.dtype == DType::kBF16) {
    LoadCodes<DType::kBF16>(data, column, left, x.aligned, v);
  } else {
    LoadCodes<DType::kE4M3>(data, column, left, x.aligned, v);
    const float scale = BlockScale(x, row, column);
    for (int i = 0; i < kChunk; ++i) v[i] *= scale;
  }
}

// 8 elements of row j of w as f32. The product of an I8 code and its scale is rounded to `round_i8`'s format.
template <DType kType>
__device__ inline void LoadWeight(const Operand& w, int64_t j, int column, int left, bool round_i8,
                                  float (&v)[kChunk]) {
  LoadCodes<kType>(w.data + j * w.row_bytes, column, left, w.aligned, v);
  if constexpr (kType == DType::kE4M3 || kType == DType::kE2M1x2) {
    const float scale = BlockScale(w, j, column);
    for (int i = 0; i < kChunk; ++i) v[i] *= scale;
  } else if constexpr (kType == DType::kI8) {
    const uint8_t* s = w.scale + j * w.scale_row_bytes;
    const float scale =
        w.scale_dtype == DType::kF32 ? *reinterpret_cast<const float*>(s) : ToF32(*reinterpret_cast<const BF16*>(s));
    for (int i = 0; i < kChunk; ++i) v[i] = round_i8 ? Rounded<BF16>(v[i] * scale) : v[i] * scale;
  }
}

// sum[r] = x[row_of(r)] . w[j] for r < rows <= R, in every lane.
template <DType kType, int R, class RowOf>
__device__ inline void Dot(const Operand& x, const Operand& w, int64_t j, int k, int rows, bool round_i8, RowOf row_of,
                           float (&sum)[R]) {
  for (int r = 0; r < R; ++r) sum[r] = 0;
  for (int column = Lane() * kChunk; column < k; column += kWarp * kChunk) {
    float a[kChunk], b[kChunk];
    LoadWeight<kType>(w, j, column, k - column, round_i8, b);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r >= rows) break;
      LoadInput(x, row_of(r), column, k - column, a);
      for (int i = 0; i < kChunk; ++i) sum[r] += a[i] * b[i];
    }
  }
  for (int r = 0; r < R; ++r) sum[r] = WarpReduce(sum[r]);
}

struct Output {
  void* data;
  int64_t stride;
  bool bf16;
  __device__ void Store(int64_t i, int64_t j, float v) const {
    if (bf16) {
      static_cast<BF16*>(data)[i * stride + j] = FromF32<BF16>(v);
    } else {
      static_cast<float*>(data)[i * stride + j] = v;
    }
  }
};
inline Output OutputOf(const MutTensorView& y) { return {y.mut_raw(), y.stride(0), y.dtype() == DType::kBF16}; }

// The operands that Dot() cannot decode.
inline Support WarpOperands(DType x, DType w) {
  VX_REQUIRE(x != DType::kI8, "sums of I8 by I8 are exact, and these are f32");
  VX_REQUIRE(w != DType::kQ8_0 && w != DType::kMXFP4, "blocks of GGUF are not decoded here");
  return {};
}

// Calls f.template operator()<dtype>() for the format of a weight.
template <class F>
void WithWeightType(DType t, F&& f) {
  switch (t) {
    case DType::kF32:
      return f.template operator()<DType::kF32>();
    case DType::kBF16:
      return f.template operator()<DType::kBF16>();
    case DType::kF16:
      return f.template operator()<DType::kF16>();
    case DType::kE4M3:
      return f.template operator()<DType::kE4M3>();
    case DType::kE2M1x2:
      return f.template operator()<DType::kE2M1x2>();
    case DType::kI8:
      return f.template operator()<DType::kI8>();
    default:
      VX_CHECK(false, "Check() let another dtype through");
  }
}

}  // namespace vexil::gpu
