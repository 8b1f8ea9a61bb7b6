#include "convert/row_reader.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "convert/expand.h"

namespace vexil::convert {

Status RowReader::LoadScales() {
  if (t_.scale == nullptr || !scales_.empty()) return {};
  VX_ASSIGN(scales_, t_.scale->ReadAll());
  if (t_.storage != Storage::kInt8) return {};
  row_scales_.resize(size_t(t_.rows()));
  for (size_t i = 0; i < row_scales_.size(); ++i) {
    if (t_.scale->info->dtype == DType::kF32) {
      std::memcpy(&row_scales_[i], scales_.data() + 4 * i, 4);
    } else {
      BF16 v;
      std::memcpy(&v, scales_.data() + 2 * i, 2);
      row_scales_[i] = v.ToFloat();
    }
  }
  return {};
}

Status RowReader::ReadBF16(int64_t row, int64_t rows, BF16* out, Scratch& scratch) {
  VX_TRY(LoadScales());
  const int64_t k = t_.cols(), stored = t_.info->dims[1] * BytesOf(t_.info->dtype);
  const std::span<uint8_t> bytes(scratch.Bytes(0, rows * stored), size_t(rows * stored));
  VX_TRY(t_.ReadAt(row * stored, bytes));
  for (int64_t r = 0; r < rows; ++r, out += k) {
    const uint8_t* in = bytes.data() + r * stored;
    switch (t_.storage) {
      case Storage::kE4M3: {
        const E8M0* scales = reinterpret_cast<const E8M0*>(scales_.data()) + (row + r) / kTile * CeilDiv(k, kTile);
        for (int64_t c = 0; c < k; c += kTile) {
          ExpandE4M3(reinterpret_cast<const E4M3*>(in) + c, std::min(kTile, k - c), scales[c / kTile], out + c);
        }
        break;
      }
      case Storage::kE2M1:
        ExpandE2M1(reinterpret_cast<const E2M1x2*>(in), k,
                   reinterpret_cast<const E8M0*>(scales_.data()) + (row + r) * CeilDiv(k, kE2M1Group), out);
        break;
      case Storage::kInt8:
        ExpandInt8(reinterpret_cast<const int8_t*>(in), k, row_scales_[size_t(row + r)], out);
        break;
      case Storage::kPlain:
        switch (t_.info->dtype) {
          case DType::kBF16:
            std::memcpy(out, in, size_t(stored));
            break;
          case DType::kF32: {
            const float* x = reinterpret_cast<const float*>(in);
            for (int64_t c = 0; c < k; ++c) out[c] = BF16::From(x[c]);
            break;
          }
          case DType::kF16: {
            const F16* x = reinterpret_cast<const F16*>(in);
            for (int64_t c = 0; c < k; ++c) out[c] = BF16::From(x[c].ToFloat());
            break;
          }
          default:
            VX_CHECK(false, "a plain matrix of integers");
        }
    }
  }
  return {};
}

Status RowReader::ReadF32(int64_t row, int64_t rows, float* out, Scratch& scratch) {
  const int64_t count = rows * t_.cols();
  if (t_.storage == Storage::kPlain && t_.info->dtype == DType::kF32) {
    return t_.ReadAt(row * t_.cols() * 4, {reinterpret_cast<uint8_t*>(out), size_t(count) * 4});
  }
  if (t_.storage == Storage::kPlain && t_.info->dtype == DType::kF16) {
    F16* half = reinterpret_cast<F16*>(scratch.Bytes(1, count * 2));
    VX_TRY(t_.ReadAt(row * t_.cols() * 2, {reinterpret_cast<uint8_t*>(half), size_t(count) * 2}));
    for (int64_t i = 0; i < count; ++i) out[i] = half[i].ToFloat();
    return {};
  }
  BF16* values = reinterpret_cast<BF16*>(scratch.Bytes(1, count * 2));
  VX_TRY(ReadBF16(row, rows, values, scratch));
  for (int64_t i = 0; i < count; ++i) out[i] = values[i].ToFloat();
  return {};
}

}  // namespace vexil::convert
