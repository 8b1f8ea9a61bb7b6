#include "convert/gguf_streams.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "convert/row_reader.h"

namespace vexil::convert {
namespace {

template <class T>
void RoundRow(const float* x, int64_t n, T* out) {
  if constexpr (ElementsOf(DTypeOf<T>()) == kBlockElements) {
    for (int64_t i = 0; i < n; i += kBlockElements) *out++ = T::From(x + i);
  } else if constexpr (std::is_same_v<T, float>) {
    std::copy_n(x, n, out);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = T::From(x[i]);
  }
}

// Whether a type with few exponents holds every finite value of the row.
bool IsFinite(F16 v) { return std::isfinite(v.ToFloat()); }
bool IsFinite(const Q8_0& b) { return IsFinite(b.scale); }
template <class T>
bool HoldsAll(const float* x, int64_t n, const T* out) {
  if constexpr (std::is_same_v<T, F16> || std::is_same_v<T, Q8_0>) {
    const bool finite = std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
    return !finite || std::all_of(out, out + n / ElementsOf(DTypeOf<T>()), [](const T& v) { return IsFinite(v); });
  }
  return true;
}

class Matrices : public TensorStream {
 public:
  Matrices(std::vector<const SourceTensor*> parts, DType type)
      : parts_(std::move(parts)), type_(type), rows_(parts_[0]->rows()), cols_(parts_[0]->cols()) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t row_bytes = cols_ / ElementsOf(type_) * BytesOf(type_);
    int64_t row = begin / row_bytes;
    uint8_t* to = out.data();
    for (int64_t left = int64_t(out.size()) / row_bytes; left > 0;) {
      const size_t part = size_t(row / rows_);
      const int64_t first = row % rows_, n = std::min(left, rows_ - first);
      VX_TRY(Rows(*parts_[part], first, n, to, scratch));
      to += n * row_bytes;
      row += n;
      left -= n;
    }
    return {};
  }

 private:
  Status Rows(const SourceTensor& t, int64_t first, int64_t n, uint8_t* out, Scratch& scratch) {
    if (type_ == DType::kMXFP4 && t.storage == Storage::kE2M1)
      return Repack(t, first, n, reinterpret_cast<MXFP4*>(out), scratch);
    if (reader_of_ != &t) {
      reader_ = std::make_unique<RowReader>(t);
      reader_of_ = &t;
    }
    float* x = scratch.Floats(2, n * cols_);
    VX_TRY(reader_->ReadF32(first, n, x, scratch));
    switch (type_) {
      case DType::kF32:
        return Round<float>(t, x, n, out);
      case DType::kF16:
        return Round<F16>(t, x, n, out);
      case DType::kBF16:
        return Round<BF16>(t, x, n, out);
      case DType::kQ8_0:
        return Round<Q8_0>(t, x, n, out);
      default:
        return Round<MXFP4>(t, x, n, out);
    }
  }

  template <class T>
  Status Round(const SourceTensor& t, const float* x, int64_t n, uint8_t* out) {
    T* to = reinterpret_cast<T*>(out);
    for (int64_t r = 0; r < n; ++r, x += cols_, to += cols_ / ElementsOf(type_)) {
      RoundRow(x, cols_, to);
      if (!HoldsAll(x, cols_, to))
        return InvalidArgument(fmt::format("{}found a value beyond the range of {}", t.Where(), NameOf(type_)));
    }
    return {};
  }

  // Codes and scales as they are; only their places change.
  Status Repack(const SourceTensor& t, int64_t first, int64_t n, MXFP4* out, Scratch& scratch) {
    const int64_t pairs = cols_ / 2, blocks = cols_ / kBlockElements;
    uint8_t *codes = scratch.Bytes(0, n * pairs), *scales = scratch.Bytes(1, n * blocks);
    VX_TRY(t.ReadAt(first * pairs, {codes, size_t(n * pairs)}));
    VX_TRY(t.scale->ReadAt(first * blocks, {scales, size_t(n * blocks)}));
    for (int64_t b = 0; b < n * blocks; ++b) {
      uint8_t unpacked[kBlockElements];
      for (int i = 0; i < kBlockElements; ++i) {
        const uint8_t pair = codes[b * (kBlockElements / 2) + i / 2];
        unpacked[i] = i % 2 ? pair >> 4 : pair & 15;
      }
      out[b] = MXFP4::FromCodes(E8M0{scales[b]}, unpacked);
    }
    return {};
  }

  const std::vector<const SourceTensor*> parts_;
  const DType type_;
  const int64_t rows_, cols_;  // of one part
  const SourceTensor* reader_of_ = nullptr;
  std::unique_ptr<RowReader> reader_;
};

// Element by element, from a tensor of another element type.
template <class To, class Convert>
class Elements : public TensorStream {
 public:
  Elements(const SourceTensor& t, Convert convert) : t_(t), convert_(convert) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t size = BytesOf(t_.info->dtype), n = int64_t(out.size() / sizeof(To));
    uint8_t* in = scratch.Bytes(0, n * size);
    VX_TRY(t_.ReadAt(begin / int64_t(sizeof(To)) * size, {in, size_t(n * size)}));
    To* to = reinterpret_cast<To*>(out.data());
    for (int64_t i = 0; i < n; ++i) VX_TRY(convert_(t_, in + i * size, to[i]));
    return {};
  }

 private:
  const SourceTensor& t_;
  const Convert convert_;
};

Status ToF32(const SourceTensor& t, const uint8_t* in, float& out) {
  uint16_t half = 0;
  switch (t.info->dtype) {
    case DType::kBF16:
      std::memcpy(&half, in, sizeof(half));
      out = BF16{half}.ToFloat();
      return {};
    case DType::kF16:
      std::memcpy(&half, in, sizeof(half));
      out = F16{half}.ToFloat();
      return {};
    default:
      std::memcpy(&out, in, sizeof(out));
      return {};
  }
}

Status ToI32(const SourceTensor& t, const uint8_t* in, int32_t& out) {
  if (t.info->dtype == DType::kI32) {
    std::memcpy(&out, in, sizeof(out));
    return {};
  }
  int64_t v = 0;
  std::memcpy(&v, in, sizeof(v));
  out = int32_t(v);
  return std::in_range<int32_t>(v)
             ? Status()
             : InvalidArgument(fmt::format("{}found {}, expected a 32-bit integer", t.Where(), v));
}

}  // namespace

std::unique_ptr<TensorStream> GgufMatrixStream(std::vector<const SourceTensor*> parts, DType type) {
  return std::make_unique<Matrices>(std::move(parts), type);
}

std::unique_ptr<TensorStream> GgufVectorStream(const SourceTensor& vector) {
  return std::make_unique<Elements<float, decltype(&ToF32)>>(vector, &ToF32);
}

std::unique_ptr<TensorStream> GgufIndexStream(const SourceTensor& table) {
  return std::make_unique<Elements<int32_t, decltype(&ToI32)>>(table, &ToI32);
}

}  // namespace vexil::convert
