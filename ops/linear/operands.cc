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

// f(block, i) is the value of element i of a block that holds its scale.
template <class Block, class F>
void DecodeScaledBlocks(const QuantView& q, int64_t row, int64_t begin, int64_t end, float* out, F f) {
  const Block* blocks = q.data.Row<Block>(row);
  for (int64_t i = begin; i < end; ++i) *out++ = f(blocks[i / kBlockElements], int(i % kBlockElements));
}

// The nibble of an element if neighbours shared a byte, as in E2M1x2.
float Interleaved(const MXFP4& b, int i) {
  return b.scale.ToFloat() * E2M1x2::kValues[i % 2 ? b.pairs[i / 2] >> 4 : b.pairs[i / 2] & 15];
}

}  // namespace

const char* RefuseInput(const QuantView& x) {
  if (x.data.rank() != 2) return "x must be [n, K]";
  if (x.data.dtype() == DType::kE4M3) {
    return HasScales(x, 1, kE4M3Block) ? nullptr : "E4M3 x needs scale E8M0 [n, ceil(K/128)] and blocks {1, 128}";
  }
  if (x.data.dtype() == DType::kI8) {
    if (x.data.dim(1) > kMaxInt8Width) return "I8 x has at most 2^17 columns";
    return x.scale.dtype() == DType::kF32 && x.scale.dims() == Dims{x.data.dim(0)} ? nullptr
                                                                                   : "I8 x needs scale F32 [n]";
  }
  if (!IsFloat(x.data.dtype())) return "x must be F32, BF16, E4M3 or I8";
  return x.scale.empty() ? nullptr : "F32 and BF16 x take no scale";
}

const char* RefusePair(const QuantView& x, const QuantView& w) {
  if (x.data.dtype() == DType::kI8 && w.data.dtype() != DType::kI8) return "I8 x needs an I8 w";
  return x.Columns() == w.Columns() ? nullptr : "x and w must have the same K";
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
    case DType::kQ8_0:
    case DType::kMXFP4:
      return w.scale.empty() ? nullptr : "Q8_0 and MXFP4 w hold their scales themselves";
    default:
      return "w must be F32, BF16, F16, E4M3, E2M1x2, I8, Q8_0 or MXFP4";
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
    case DType::kQ8_0: {
      const bool unscaled = VX_FAULT("unscaled_q8_0");
      return DecodeScaledBlocks<Q8_0>(q, row, begin, end, out,
                                      [&](const Q8_0& b, int i) { return unscaled ? float(b.codes[i]) : b.At(i); });
    }
    case DType::kMXFP4: {
      const bool interleaved = VX_FAULT("interleaved_mxfp4");
      return DecodeScaledBlocks<MXFP4>(
          q, row, begin, end, out, [&](const MXFP4& b, int i) { return interleaved ? Interleaved(b, i) : b.At(i); });
    }
    default:
      VX_CHECK(false, "RefuseInput and RefuseWeight let another dtype through");
  }
}

}  // namespace vexil
