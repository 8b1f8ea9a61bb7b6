#include "convert/streams.h"

#include <algorithm>
#include <cstring>

#include "convert/row_reader.h"

namespace vexil::convert {
namespace {

class CopyRange : public TensorStream {
 public:
  CopyRange(const SourceTensor& tensor, int64_t offset) : tensor_(tensor), offset_(offset) {}
  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch&) override { return tensor_.ReadAt(offset_ + begin, out); }

 private:
  const SourceTensor& tensor_;
  const int64_t offset_;  // of the first byte to copy
};

class CopyColumnRange : public TensorStream {
 public:
  CopyColumnRange(const SourceTensor& matrix, int64_t offset, int64_t width)
      : matrix_(matrix), stride_(matrix.info->dims[1] * BytesOf(matrix.info->dtype)), offset_(offset), width_(width) {}

  // Whole rows are read, which costs less than a system call per row.
  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    constexpr int64_t kReadBytes = 1 << 20;
    const int64_t rows = int64_t(out.size()) / width_, step = std::max<int64_t>(1, kReadBytes / stride_);
    for (int64_t r = 0; r < rows; r += step) {
      const int64_t n = std::min(step, rows - r);
      uint8_t* in = scratch.Bytes(0, n * stride_);
      VX_TRY(matrix_.ReadAt((begin / width_ + r) * stride_, {in, size_t(n * stride_)}));
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(&out[size_t((r + i) * width_)], in + i * stride_ + offset_, size_t(width_));
    }
    return {};
  }

 private:
  const SourceTensor& matrix_;
  const int64_t stride_, offset_, width_;  // bytes of a row, and of its part
};

class Dequantized : public TensorStream {
 public:
  Dequantized(const SourceTensor& matrix, int64_t first_row) : reader_(matrix), first_row_(first_row) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t row_bytes = 2 * reader_.cols();
    return reader_.ReadBF16(first_row_ + begin / row_bytes, int64_t(out.size()) / row_bytes,
                            reinterpret_cast<BF16*>(out.data()), scratch);
  }

 private:
  RowReader reader_;
  const int64_t first_row_;
};

}  // namespace

SafetensorsTensor CopyRows(const SourceTensor& t, int64_t begin, int64_t end) {
  Dims dims = t.info->dims;
  int64_t offset = 0;
  if (end >= 0) {
    dims.d[0] = end - begin;
    offset = begin * (t.info->Bytes() / std::max<int64_t>(t.info->dims[0], 1));
  }
  return {{t.name, t.info->dtype, dims}, 1, [&t, offset] { return std::make_unique<CopyRange>(t, offset); }};
}

SafetensorsTensor CopyColumns(const SourceTensor& t, int64_t begin, int64_t end) {
  const int64_t size = BytesOf(t.info->dtype), width = (end - begin) * size;
  return {{t.name, t.info->dtype, {t.info->dims[0], end - begin}}, width, [&t, offset = begin * size, width] {
            return std::make_unique<CopyColumnRange>(t, offset, width);
          }};
}

SafetensorsTensor DequantizeRows(const SourceTensor& t, int64_t begin, int64_t end) {
  const int64_t rows = end < 0 ? t.rows() : end - begin;
  return {{t.name, DType::kBF16, {rows, t.cols()}}, 2 * t.cols(), [&t, begin] {
            return std::make_unique<Dequantized>(t, begin);
          }};
}

}  // namespace vexil::convert
