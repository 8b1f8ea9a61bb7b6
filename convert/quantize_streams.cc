#include "convert/quantize_streams.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "convert/expand.h"
#include "convert/quantizers.h"
#include "convert/repack.h"
#include "convert/row_reader.h"

namespace vexil::convert {
namespace {

constexpr int kValues = 2, kCheck = 3;  // scratch slots; RowReader has 0 and 1

// Error of y as a stand-in for x.
struct ErrorSums {
  double max = 0, error2 = 0, x2 = 0, y2 = 0, xy = 0;
  int64_t count = 0;

  void Add(const float* x, const BF16* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const double a = x[i], b = y[i].ToFloat(), e = std::fabs(a - b);
      max = std::max(max, e);
      error2 += e * e;
      x2 += a * a;
      y2 += b * b;
      xy += a * b;
    }
    count += n;
  }

  Json Describe(Target target) const {
    const double n = double(std::max<int64_t>(count, 1)), norms = std::sqrt(x2) * std::sqrt(y2);
    return Json(Json::Object{{"format", TargetName(target)},
                             {"max_error", max},
                             {"rms_error", std::sqrt(error2 / n)},
                             {"rms", std::sqrt(x2 / n)},
                             {"cosine", norms > 0 ? xy / norms : 1.0}});
  }
};

// The scales of 128 rows of tiles.
void TileScales(const float* x, int64_t rows, int64_t k, E8M0* out) {
  for (int64_t c = 0; c < k; c += kTile) {
    float amax = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const float m = AbsMax(x + r * k + c, std::min(kTile, k - c));
      if (!(m <= amax)) amax = m;  // NaN stays
    }
    out[c / kTile] = ScaleForE4M3(amax);
  }
}

class E4M3Codes : public TensorStream {
 public:
  explicit E4M3Codes(const SourceTensor& t) : reader_(t), scales_(size_t(CeilDiv(t.cols(), kTile))) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t k = reader_.cols(), rows = int64_t(out.size()) / k;
    float* x = scratch.Floats(kValues, rows * k);
    BF16* y = reinterpret_cast<BF16*>(scratch.Bytes(kCheck, k * 2));
    VX_TRY(reader_.ReadF32(begin / k, rows, x, scratch));
    E4M3* codes = reinterpret_cast<E4M3*>(out.data());
    for (int64_t tile = 0; tile < rows; tile += kTile) {
      const int64_t end = std::min(tile + kTile, rows);
      TileScales(x + tile * k, end - tile, k, scales_.data());
      for (int64_t r = tile; r < end; ++r) {
        for (int64_t c = 0; c < k; c += kTile) {
          const int64_t n = std::min(kTile, k - c);
          EncodeE4M3(x + r * k + c, n, scales_[size_t(c / kTile)], codes + r * k + c);
          ExpandE4M3(codes + r * k + c, n, scales_[size_t(c / kTile)], y + c);
        }
        error_.Add(x + r * k, y, k);
      }
    }
    return {};
  }
  Json Notes() const override { return error_.Describe(Target::kE4M3); }

 private:
  RowReader reader_;
  std::vector<E8M0> scales_;
  ErrorSums error_;
};

class E4M3Scales : public TensorStream {
 public:
  explicit E4M3Scales(const SourceTensor& t) : reader_(t), matrix_rows_(t.rows()) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t k = reader_.cols(), per_row = CeilDiv(k, kTile);
    for (int64_t i = 0; i < int64_t(out.size()) / per_row; ++i) {
      const int64_t row = (begin / per_row + i) * kTile, rows = std::min(kTile, matrix_rows_ - row);
      float* x = scratch.Floats(kValues, rows * k);
      VX_TRY(reader_.ReadF32(row, rows, x, scratch));
      TileScales(x, rows, k, reinterpret_cast<E8M0*>(out.data()) + i * per_row);
    }
    return {};
  }

 private:
  RowReader reader_;
  const int64_t matrix_rows_;
};

class E2M1Codes : public TensorStream {
 public:
  explicit E2M1Codes(const SourceTensor& t) : reader_(t) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t k = reader_.cols(), rows = int64_t(out.size()) * 2 / k;
    float* x = scratch.Floats(kValues, rows * k);
    BF16* y = reinterpret_cast<BF16*>(scratch.Bytes(kCheck, kE2M1Group * 2));
    VX_TRY(reader_.ReadF32(begin * 2 / k, rows, x, scratch));
    E2M1x2* pairs = reinterpret_cast<E2M1x2*>(out.data());
    for (int64_t i = 0; i < rows * k; i += kE2M1Group) {
      const E8M0 scale = ScaleForE2M1(AbsMax(x + i, kE2M1Group));
      EncodeE2M1(x + i, kE2M1Group, scale, pairs + i / 2);
      ExpandE2M1(pairs + i / 2, kE2M1Group, &scale, y);
      error_.Add(x + i, y, kE2M1Group);
    }
    return {};
  }
  Json Notes() const override { return error_.Describe(Target::kE2M1); }

 private:
  RowReader reader_;
  ErrorSums error_;
};

class E2M1Scales : public TensorStream {
 public:
  explicit E2M1Scales(const SourceTensor& t) : reader_(t) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t k = reader_.cols(), per_row = k / kE2M1Group, rows = int64_t(out.size()) / per_row;
    constexpr int64_t kRowsAtOnce = 64;
    for (int64_t r = 0; r < rows; r += kRowsAtOnce) {
      const int64_t n = std::min(kRowsAtOnce, rows - r);
      float* x = scratch.Floats(kValues, n * k);
      VX_TRY(reader_.ReadF32(begin / per_row + r, n, x, scratch));
      for (int64_t i = 0; i < n * per_row; ++i) {
        out[size_t(r * per_row + i)] = ScaleForE2M1(AbsMax(x + i * kE2M1Group, kE2M1Group)).bits;
      }
    }
    return {};
  }

 private:
  RowReader reader_;
};

class Int8Codes : public TensorStream {
 public:
  explicit Int8Codes(const SourceTensor& t) : reader_(t) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t k = reader_.cols(), rows = int64_t(out.size()) / k;
    float* x = scratch.Floats(kValues, rows * k);
    BF16* y = reinterpret_cast<BF16*>(scratch.Bytes(kCheck, k * 2));
    VX_TRY(reader_.ReadF32(begin / k, rows, x, scratch));
    int8_t* codes = reinterpret_cast<int8_t*>(out.data());
    for (int64_t r = 0; r < rows; ++r, x += k, codes += k) {
      const float scale = ScaleForInt8(AbsMax(x, k));
      EncodeInt8(x, k, scale, codes);
      ExpandInt8(codes, k, BF16::From(scale).ToFloat(), y);  // as a reader sees it: the scale is stored in BF16
      error_.Add(x, y, k);
    }
    return {};
  }
  Json Notes() const override { return error_.Describe(Target::kInt8); }

 private:
  RowReader reader_;
  ErrorSums error_;
};

class Int8Scales : public TensorStream {
 public:
  explicit Int8Scales(const SourceTensor& t) : reader_(t) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t k = reader_.cols();
    BF16* scales = reinterpret_cast<BF16*>(out.data());
    for (int64_t i = 0; i < int64_t(out.size()) / 2; ++i) {
      float* x = scratch.Floats(kValues, k);
      VX_TRY(reader_.ReadF32(begin / 2 + i, 1, x, scratch));
      scales[i] = BF16::From(ScaleForInt8(AbsMax(x, k)));
    }
    return {};
  }

 private:
  RowReader reader_;
};

// The new scales of the tiles, from the FP4 scales alone.
Result<std::vector<E8M0>> RepackedScales(const SourceTensor& t, const std::vector<uint8_t>& scales) {
  const int64_t groups = t.cols() / kE2M1Group, tiles = t.cols() / kTile, per_tile = kTile / kE2M1Group;
  std::vector<E8M0> out(size_t(t.rows() / kTile * tiles));
  for (int64_t i = 0; i < int64_t(out.size()); ++i) {
    int largest = 0;
    for (int64_t r = 0; r < kTile; ++r) {
      const uint8_t* row = scales.data() + (i / tiles * kTile + r) * groups + i % tiles * per_tile;
      largest = std::max<int>(largest, *std::max_element(row, row + per_tile));
    }
    const int scale = RepackedScale(largest);
    if (scale < 0) {
      return InvalidArgument(
          fmt::format("{}the largest scale of a 128 x 128 tile is code {}, expected {} to 254 to repack it as E4M3",
                      t.scale->Where(), largest, kRepackShift));
    }
    out[size_t(i)] = {uint8_t(scale)};
  }
  return out;
}

class RepackedCodes : public TensorStream {
 public:
  explicit RepackedCodes(const SourceTensor& t) : t_(t) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    if (tile_scales_.empty()) {
      VX_ASSIGN(scales_, t_.scale->ReadAll());
      VX_ASSIGN(tile_scales_, RepackedScales(t_, scales_));
    }
    const int64_t k = t_.cols(), first = begin / k, rows = int64_t(out.size()) / k;
    uint8_t* pairs = scratch.Bytes(0, rows * k / 2);
    VX_TRY(t_.ReadAt(begin / 2, {pairs, size_t(rows * k / 2)}));
    for (int64_t r = 0; r < rows; ++r) {
      rounded_ += RepackRow(reinterpret_cast<const E2M1x2*>(pairs) + r * k / 2, k,
                            reinterpret_cast<const E8M0*>(scales_.data()) + (first + r) * (k / kE2M1Group),
                            tile_scales_.data() + (first + r) / kTile * (k / kTile),
                            reinterpret_cast<E4M3*>(out.data()) + r * k);
    }
    count_ += rows * k;
    return {};
  }
  Json Notes() const override { return Json(Json::Object{{"repacked", count_}, {"rounded", rounded_}}); }

 private:
  const SourceTensor& t_;
  std::vector<uint8_t> scales_;
  std::vector<E8M0> tile_scales_;
  int64_t count_ = 0, rounded_ = 0;
};

class RepackedScaleStream : public TensorStream {
 public:
  explicit RepackedScaleStream(const SourceTensor& t) : t_(t) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch&) override {
    VX_ASSIGN(const std::vector<uint8_t> scales, t_.scale->ReadAll());
    VX_ASSIGN(const std::vector<E8M0> tiles, RepackedScales(t_, scales));
    std::memcpy(out.data(), tiles.data() + begin, out.size());
    return {};
  }

 private:
  const SourceTensor& t_;
};

template <class Stream>
SafetensorsTensor Made(const SourceTensor& t, std::string name, DType dtype, Dims dims, int64_t granule) {
  return {{std::move(name), dtype, dims}, granule, [&t] { return std::make_unique<Stream>(t); }};
}

}  // namespace

const char* TargetName(Target target) {
  switch (target) {
    case Target::kE4M3:
      return "E4M3";
    case Target::kE2M1:
      return "E2M1";
    case Target::kInt8:
      return "INT8";
  }
  return "";
}

std::string ScaleNameOf(std::string_view weight) {
  constexpr std::string_view kWeight = ".weight";
  return std::string(weight.substr(0, weight.size() - kWeight.size())) + ".scale";
}

Result<std::vector<SafetensorsTensor>> Quantized(const SourceTensor& t, Target target) {
  const int64_t n = t.rows(), k = t.cols();
  const std::string scale = ScaleNameOf(t.name);
  std::vector<SafetensorsTensor> out;
  switch (target) {
    case Target::kE4M3:
      out.push_back(Made<E4M3Codes>(t, t.name, DType::kE4M3, {n, k}, kTile * k));
      out.push_back(
          Made<E4M3Scales>(t, scale, DType::kE8M0, {CeilDiv(n, kTile), CeilDiv(k, kTile)}, CeilDiv(k, kTile)));
      break;
    case Target::kE2M1:
      if (k % kE2M1Group != 0) {
        return InvalidArgument(
            fmt::format("{}found {} columns, expected a multiple of {} for E2M1", t.Where(), k, kE2M1Group));
      }
      out.push_back(Made<E2M1Codes>(t, t.name, DType::kI8, {n, k / 2}, k / 2));
      out.push_back(Made<E2M1Scales>(t, scale, DType::kE8M0, {n, k / kE2M1Group}, k / kE2M1Group));
      break;
    case Target::kInt8:
      out.push_back(Made<Int8Codes>(t, t.name, DType::kI8, {n, k}, k));
      out.push_back(Made<Int8Scales>(t, scale, DType::kBF16, {n}, 2));
      break;
  }
  return out;
}

Result<std::vector<SafetensorsTensor>> Repacked(const SourceTensor& t) {
  const int64_t n = t.rows(), k = t.cols();
  if (n % kTile != 0 || k % kTile != 0) {
    return InvalidArgument(
        fmt::format("{}found {} x {} values, expected multiples of 128 to repack them as E4M3", t.Where(), n, k));
  }
  std::vector<SafetensorsTensor> out;
  out.push_back(Made<RepackedCodes>(t, t.name, DType::kE4M3, {n, k}, k));
  out.push_back(Made<RepackedScaleStream>(t, ScaleNameOf(t.name), DType::kE8M0, {n / kTile, k / kTile}, 1));
  return out;
}

}  // namespace vexil::convert
