#include "ops/linear/operands.h"

#include <algorithm>

#include "ops/elements.h"
#include "ops/fault.h"

namespace vexil {
namespace {

bool HasScales(const QuantView& q, int64_t block_rows, int64_t block_cols) {
  return q.block_rows == block_rows && q.block_cols == block_cols && q.scale.dtype() == DType::kE8M0 &&
         q.scale.dims() == Dims{CeilDiv(q.data.dim(0), block_rows), CeilDiv(q.Columns(), block_cols)};
}

template <class T>
void DecodePlain(const QuantView& q, int64_t row, int64_t begin, int64_t end, float* out) {
  const T* v = q.data.Row<T>(row);
  for (int64_t i = begin; i < end; ++i) *out++ = v[i].ToFloat();
}

float E8M0ScaleAt(const QuantView& q, int64_t row, int64_t column) {
  const int64_t block = VX_FAULT("first_block_scale") ? 0 : column / q.block_cols;
  const int64_t tile = VX_FAULT("scale_of_first_tile") ? 0 : row / q.block_rows;
  return q.scale.Row<E8M0>(tile)[block].ToFloat();
}

// f(i) is the value of element i of the row before scaling.
template <class F>
void DecodeBlocks(const QuantView& q, int64_t row, int64_t begin, int64_t end, float* out, F f) {
  for (int64_t i = begin; i < end;) {
    const int64_t block_end = std::min(end, (i / q.block_cols + 1) * q.block_cols);
    const float scale = E8M0ScaleAt(q, row, i);
    for (; i < block_end; ++i) *out++ = f(i) * scale;
  }
}

void DecodeI8(const QuantView& q, int64_t row, int64_t begin, int64_t end, DType product, float* out) {
  const float scale = q.scale.dtype() == DType::kF32 ? q.scale.Data<float>()[row] : q.scale.Data<BF16>()[row].ToFloat();
  const int8_t* codes = q.data.Row<int8_t>(row);
  const bool round = product == DType::kBF16 && !VX_FAULT("unrounded_i8");
  for (int64_t i = begin; i < end; ++i) {
    const float v = float(codes[i]) * scale;
    *out++ = round ? BF16::From(v).ToFloat() : v;
  }
}

}  // namespace

const char* RefuseInput(const QuantView& x) {
  if (x.data.rank() != 2) return "x must be [n, K]";
  if (x.data.dtype() == DType::kE4M3) {
    return HasScales(x, 1, kE4M3Block) ? nullptr : "E4M3 x needs scale E8M0 [n, ceil(K/128)] and blocks {1, 128}";
  }
  if (!IsFloat(x.data.dtype())) return "x must be F32, BF16 or E4M3";
  return x.scale.empty() ? nullptr : "F32 and BF16 x take no scale";
}

const char* RefuseWeight(const QuantView& w) {
  if (w.data.rank() != 2 || w.data.dim(0) < 1 || w.data.dim(1) < 1) return "w must be [N, K], neither zero";
  if (!w.data.IsContiguous()) return "w must be contiguous";
  switch (w.data.dtype()) {
    case DType::kF32:
    case DType::kBF16:
    case DType::kF16:
      return w.scale.empty() ? nullptr : "F32, BF16 and F16 w take no scale";
    case DType::kE4M3:
      return HasScales(w, kE4M3Block, kE4M3Block) || HasScales(w, 1, kE4M3Block)
                 ? nullptr
                 : "E4M3 w needs scale E8M0 [ceil(N/128), ceil(K/128)] and blocks {128, 128}, or [N, ...] and {1, 128}";
    case DType::kE2M1x2:
      return HasScales(w, 1, kE2M1Block) ? nullptr : "E2M1x2 w needs scale E8M0 [N, ceil(K/32)] and blocks {1, 32}";
    case DType::kI8:
      return IsFloat(w.scale.dtype()) && w.scale.dims() == Dims{w.data.dim(0)} && !w.scale.empty()
                 ? nullptr
                 : "I8 w needs scale F32 or BF16 [N]";
    default:
      return "w must be F32, BF16, F16, E4M3, E2M1x2 or I8";
  }
}

bool SameFormat(const QuantView& a, const QuantView& b) {
  return a.data.dtype() == b.data.dtype() && a.data.dims() == b.data.dims() && a.scale.dtype() == b.scale.dtype() &&
         a.scale.dims() == b.scale.dims() && a.block_rows == b.block_rows && a.block_cols == b.block_cols;
}

void DecodeRow(const QuantView& q, int64_t row, int64_t begin, int64_t end, DType i8_product, float* out) {
  switch (q.data.dtype()) {
    case DType::kF32:
      std::copy(q.data.Row<float>(row) + begin, q.data.Row<float>(row) + end, out);
      return;
    case DType::kBF16:
      return DecodePlain<BF16>(q, row, begin, end, out);
    case DType::kF16:
      return DecodePlain<F16>(q, row, begin, end, out);
    case DType::kE4M3: {
      const E4M3* codes = q.data.Row<E4M3>(row);
      return DecodeBlocks(q, row, begin, end, out, [&](int64_t i) { return codes[i].ToFloat(); });
    }
    case DType::kE2M1x2: {
      const E2M1x2* codes = q.data.Row<E2M1x2>(row);
      const int64_t swap = VX_FAULT("swapped_nibbles") ? 1 : 0;
      return DecodeBlocks(q, row, begin, end, out,
                          [&](int64_t i) { return (i + swap) % 2 ? codes[i / 2].High() : codes[i / 2].Low(); });
    }
    case DType::kI8:
      return DecodeI8(q, row, begin, end, i8_product, out);
    default:
      VX_CHECK(false, "RefuseInput and RefuseWeight let another dtype through");
  }
}

}  // namespace vexil
