#include "convert/join_streams.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "convert/expand.h"
#include "io/quote.h"

namespace vexil::convert {
namespace {

// Uses scratch slot 1.
Status ReadCompared(const Copies& copies, int64_t offset, std::span<uint8_t> out, Scratch& scratch) {
  VX_TRY(copies[0]->ReadAt(offset, out));
  for (size_t i = 1; i < copies.size(); ++i) {
    uint8_t* other = scratch.Bytes(1, int64_t(out.size()));
    VX_TRY(copies[i]->ReadAt(offset, {other, out.size()}));
    if (std::memcmp(other, out.data(), out.size()) == 0) continue;
    return DataLoss(fmt::format("{}found other bytes than in {}, expected the same on both ranks", copies[i]->Where(),
                                copies[0]->file->path()));
  }
  return {};
}

class RowJoin : public TensorStream {
 public:
  explicit RowJoin(std::vector<Copies> slices) : slices_(std::move(slices)) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    int64_t start = 0;  // of the slice in the joined tensor
    for (const Copies& slice : slices_) {
      const int64_t size = slice[0]->info->Bytes(), from = begin - start;
      if (from < size && !out.empty()) {
        const size_t n = size_t(std::min<int64_t>(int64_t(out.size()), size - from));
        VX_TRY(ReadCompared(slice, from, out.first(n), scratch));
        out = out.subspan(n);
        begin += int64_t(n);
      }
      start += size;
    }
    return {};
  }

 private:
  std::vector<Copies> slices_;
};

class ColumnJoin : public TensorStream {
 public:
  explicit ColumnJoin(std::vector<Copies> slices) : slices_(std::move(slices)) {
    for (const Copies& slice : slices_) row_ += Width(slice);
  }

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t rows = int64_t(out.size()) / row_;
    int64_t column = 0;
    for (const Copies& slice : slices_) {
      const int64_t width = Width(slice);
      uint8_t* in = scratch.Bytes(0, rows * width);
      VX_TRY(ReadCompared(slice, begin / row_ * width, {in, size_t(rows * width)}, scratch));
      for (int64_t r = 0; r < rows; ++r) std::memcpy(&out[size_t(r * row_ + column)], in + r * width, size_t(width));
      column += width;
    }
    return {};
  }

 private:
  static int64_t Width(const Copies& slice) { return slice[0]->info->dims[1] * BytesOf(slice[0]->info->dtype); }

  std::vector<Copies> slices_;
  int64_t row_ = 0;  // bytes of a joined row
};

class Requantized : public TensorStream {
 public:
  Requantized(std::unique_ptr<TensorStream> values, int64_t cols, std::vector<uint8_t> scales, std::string name)
      : values_(std::move(values)), cols_(cols), scales_(std::move(scales)), name_(std::move(name)) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t count = int64_t(out.size());
    BF16* values = reinterpret_cast<BF16*>(scratch.Bytes(2, count * 2));
    VX_TRY(values_->Fill(begin * 2, {reinterpret_cast<uint8_t*>(values), size_t(count) * 2}, scratch));
    BF16* again = reinterpret_cast<BF16*>(scratch.Bytes(3, kTile * 2));
    E4M3* codes = reinterpret_cast<E4M3*>(out.data());
    for (int64_t i = 0; i < count;) {
      const int64_t row = (begin + i) / cols_, column = (begin + i) % cols_;
      const int64_t n = std::min(kTile - column % kTile, cols_ - column);
      const E8M0 scale{scales_[size_t(row / kTile * CeilDiv(cols_, kTile) + column / kTile)]};
      const float inverse = 1.0f / scale.ToFloat();
      for (int64_t j = 0; j < n; ++j) codes[i + j] = E4M3::From(values[i + j].ToFloat() * inverse);
      ExpandE4M3(codes + i, n, scale, again);
      if (std::memcmp(again, values + i, size_t(n) * 2) != 0) {
        return DataLoss(fmt::format("tensor {}: row {}: found a value that no E4M3 code has under the recorded scale",
                                    QuoteName(name_), row));
      }
      i += n;
    }
    return {};
  }

 private:
  std::unique_ptr<TensorStream> values_;
  const int64_t cols_;
  const std::vector<uint8_t> scales_;
  const std::string name_;
};

class Fixed : public TensorStream {
 public:
  explicit Fixed(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {}
  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch&) override {
    std::memcpy(out.data(), bytes_.data() + begin, out.size());
    return {};
  }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace

std::unique_ptr<TensorStream> JoinRows(std::vector<Copies> slices) {
  return std::make_unique<RowJoin>(std::move(slices));
}
std::unique_ptr<TensorStream> JoinColumns(std::vector<Copies> slices) {
  return std::make_unique<ColumnJoin>(std::move(slices));
}
std::unique_ptr<TensorStream> RequantizeExactly(std::unique_ptr<TensorStream> values, int64_t cols,
                                                std::vector<uint8_t> scales, std::string name) {
  return std::make_unique<Requantized>(std::move(values), cols, std::move(scales), std::move(name));
}
std::unique_ptr<TensorStream> FixedBytes(std::vector<uint8_t> bytes) {
  return std::make_unique<Fixed>(std::move(bytes));
}

}  // namespace vexil::convert
