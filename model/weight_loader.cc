#include "model/weight_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/tensor_names.h"

namespace vexil {
namespace {

constexpr int64_t kTile = 128;  // an E4M3 scale covers a tile of 128 x 128
constexpr uint8_t kE8M0NaN = 255;
constexpr int64_t kE2M1Group = 32;  // an E2M1 scale covers 32 columns of one row

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool IsPlainFloat(DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16; }

float LoadFloat(const TensorView& t, int64_t i) {
  switch (t.dtype()) {
    case DType::kF32:
      return t.Data<float>()[i];
    case DType::kBF16:
      return t.Data<BF16>()[i].ToFloat();
    default:
      return t.Data<F16>()[i].ToFloat();
  }
}

}  // namespace

std::string DimsText(const Dims& dims) {
  std::string s = "[";
  for (int i = 0; i < dims.rank; ++i) s += fmt::format("{}{}", i ? ", " : "", dims[i]);
  return s + "]";
}

WeightLoader::WeightLoader(const CheckpointFiles& files, Converted& converted) : files_(files), converted_(converted) {
  for (std::string_view name : files.names()) {
    const TensorInfo* info = files.Find(name);
    const auto [it, inserted] = index_.try_emplace(CanonicalTensorName(name), Entry{info});
    if (!inserted) {
      Fail(InvalidArgument(
          fmt::format("{}also stored as '{}', expected one of the two", Where(*info), it->second.info->name)));
    }
  }
}

void WeightLoader::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

std::string WeightLoader::Where(const TensorInfo& info) const {
  const SafetensorsFile* file = files_.FileOf(info.name);
  return fmt::format("{}: tensor '{}': ", file ? file->path() : files_.path(), info.name);
}

const TensorInfo* WeightLoader::Take(const std::string& name) {
  if (!ok()) return nullptr;
  const auto it = index_.find(name);
  if (it == index_.end()) {
    Fail(InvalidArgument(fmt::format("{}: tensor '{}' is missing", files_.path(), name)));
    return nullptr;
  }
  it->second.used = true;
  return it->second.info;
}

bool WeightLoader::ExpectDims(const TensorInfo& info, Dims dims) {
  if (info.dims == dims) return true;
  Fail(InvalidArgument(fmt::format("{}found shape {}, expected {}", Where(info), DimsText(info.dims), DimsText(dims))));
  return false;
}

void* WeightLoader::NewBuffer(int64_t bytes) { return converted_.emplace_back(new std::byte[size_t(bytes)]).get(); }

TensorView WeightLoader::Plain(const std::string& name, Dims dims) {
  const TensorInfo* info = Take(name);
  if (info == nullptr || !ExpectDims(*info, dims)) return {};
  if (!IsPlainFloat(info->dtype)) {
    Fail(
        InvalidArgument(fmt::format("{}found dtype {}, expected F32, BF16 or F16", Where(*info), NameOf(info->dtype))));
    return {};
  }
  return info->view;
}

TensorView WeightLoader::AsF32(const std::string& name, Dims dims) {
  const TensorView stored = Plain(name, dims);
  if (stored.empty()) return stored;
  for (int64_t i = 0; i < dims.Count(); ++i) {
    const float v = LoadFloat(stored, i);
    if (std::isfinite(v)) continue;
    Fail(InvalidArgument(fmt::format("{}element {}: found {}, expected a finite number", Where(*Take(name)), i, v)));
    return {};
  }
  if (stored.dtype() == DType::kF32) return stored;
  float* values = static_cast<float*>(NewBuffer(dims.Count() * int64_t(sizeof(float))));
  for (int64_t i = 0; i < dims.Count(); ++i) values[i] = LoadFloat(stored, i);
  return TensorView(values, DType::kF32, dims);
}

TensorView WeightLoader::IndexTable(const std::string& name, int64_t rows, int64_t cols, int64_t limit) {
  const TensorInfo* info = Take(name);
  if (info == nullptr || !ExpectDims(*info, {rows, cols})) return {};
  if (info->dtype != DType::kI64 && info->dtype != DType::kI32) {
    Fail(InvalidArgument(fmt::format("{}found dtype {}, expected I64 or I32", Where(*info), NameOf(info->dtype))));
    return {};
  }
  int32_t* table = static_cast<int32_t*>(NewBuffer(rows * cols * int64_t(sizeof(int32_t))));
  for (int64_t r = 0; r < rows; ++r) {
    int32_t* row = table + r * cols;
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t i = r * cols + c;
      const int64_t v = info->dtype == DType::kI64 ? info->view.Data<int64_t>()[i] : info->view.Data<int32_t>()[i];
      if (v < 0 || v >= limit) {
        Fail(
            InvalidArgument(fmt::format("{}row {}: found expert {}, expected 0 to {}", Where(*info), r, v, limit - 1)));
        return {};
      }
      row[c] = int32_t(v);
      if (std::find(row, row + c, row[c]) != row + c) {
        Fail(InvalidArgument(
            fmt::format("{}row {}: found expert {} twice, expected distinct experts", Where(*info), r, v)));
        return {};
      }
    }
  }
  return TensorView(table, DType::kI32, {rows, cols});
}

TensorView WeightLoader::Scales(const std::string& stem, int64_t rows, int64_t cols) {
  const TensorInfo* info = Take(stem + ".scale");
  if (info == nullptr || !ExpectDims(*info, {rows, cols})) return {};
  if (info->dtype != DType::kE8M0) {
    Fail(InvalidArgument(fmt::format("{}found dtype {}, expected F8_E8M0", Where(*info), NameOf(info->dtype))));
    return {};
  }
  saw_quantized_ = true;
  return info->view;
}

QuantView WeightLoader::E4M3Matrix(const std::string& stem, const TensorInfo& w, int64_t n, int64_t k) {
  if (!ExpectDims(w, {n, k})) return {};
  const TensorView scale = Scales(stem, CeilDiv(n, kTile), CeilDiv(k, kTile));
  // These are few. The scales of E2M1 matrices are not read here, so that loading stays cheap; a NaN among them shows
  // in the logits.
  for (int64_t i = 0; !scale.empty() && i < scale.dims().Count(); ++i) {
    if (scale.Data<E8M0>()[i].bits != kE8M0NaN) continue;
    Fail(InvalidArgument(
        fmt::format("{}element {}: found NaN, expected a finite number", Where(*Take(stem + ".scale")), i)));
    return {};
  }
  return QuantView(w.view, scale, kTile, kTile);
}

QuantView WeightLoader::PackedE2M1Matrix(const std::string& stem, const TensorInfo& w, int64_t n, int64_t k) {
  if (!ExpectDims(w, {n, k / 2})) return {};
  const TensorView scale = Scales(stem, n, CeilDiv(k, kE2M1Group));
  return QuantView(TensorView(w.view.raw(), DType::kE2M1x2, {n, k / 2}), scale, 1, kE2M1Group);
}

// The community's W8A8 scheme: BF16 (or F32) scale [n] or [n, 1] (spec: quantization, 8).
QuantView WeightLoader::Int8Matrix(const std::string& stem, const TensorInfo& w, int64_t n, int64_t k) {
  const std::string name = stem + ".scale";
  const auto it = index_.find(name);
  const bool column = it != index_.end() && it->second.info->dims.rank == 2;
  const TensorView scale = AsF32(name, column ? Dims{n, 1} : Dims{n});
  if (scale.empty()) return {};
  saw_quantized_ = true;
  return QuantView(w.view, TensorView(scale.raw(), DType::kF32, {n}), 1, k);
}

QuantView WeightLoader::Matrix(const std::string& stem, int64_t n, int64_t k) {
  const TensorInfo* w = Take(stem + ".weight");
  if (w == nullptr) return {};
  switch (w->dtype) {
    case DType::kF32:
    case DType::kBF16:
    case DType::kF16:
      return ExpectDims(*w, {n, k}) ? QuantView(w->view) : QuantView();
    case DType::kE4M3:
      return E4M3Matrix(stem, *w, n, k);
    case DType::kE2M1x2:
      return PackedE2M1Matrix(stem, *w, n, k);
    case DType::kI8:  // packed E2M1 pairs or INT8: only the width tells (spec: quantization, 10.8)
      return w->dims == Dims{n, k} ? Int8Matrix(stem, *w, n, k) : PackedE2M1Matrix(stem, *w, n, k);
    case DType::kQ8_0:
    case DType::kMXFP4:
      return BlockMatrix(*w, {n, k});
    default:
      Fail(InvalidArgument(fmt::format("{}found dtype {}, expected a matrix format", Where(*w), NameOf(w->dtype))));
      return {};
  }
}

// Blocks that hold their scale; `dims` count elements.
QuantView WeightLoader::BlockMatrix(const TensorInfo& w, Dims dims) {
  int64_t& last = dims.d[size_t(dims.rank - 1)];
  if (last % kBlockElements != 0) {
    Fail(InvalidArgument(fmt::format("{}found dtype {}, expected a format without blocks for rows of {}", Where(w),
                                     NameOf(w.dtype), last)));
    return {};
  }
  last /= kBlockElements;
  if (!ExpectDims(w, dims)) return {};
  saw_quantized_ = true;
  return QuantView(w.view);
}

QuantView WeightLoader::StackedMatrix(const std::string& name, int64_t count, int64_t rows, int64_t k, int64_t e,
                                      int64_t first, int64_t n) {
  const TensorInfo* info = index_.contains(name) ? index_.find(name)->second.info : nullptr;
  const bool blocks = info != nullptr && ElementsOf(info->dtype) == kBlockElements;
  const TensorView all = blocks ? BlockMatrix(*Take(name), {count, rows, k}).data : Plain(name, {count, rows, k});
  if (all.empty()) return {};
  return QuantView(all.Reshape({count * rows, all.dim(2)}).Rows(e * rows + first, e * rows + first + n));
}

QuantView WeightLoader::RowSlice(const QuantView& matrix, int64_t begin, int64_t end) {
  if (matrix.scale.empty()) return QuantView(matrix.data.Rows(begin, end));
  QuantView slice = matrix;
  slice.data = matrix.data.Rows(begin, end);
  if (begin % matrix.block_rows == 0) {
    const int64_t rows = matrix.block_rows;
    slice.scale = matrix.scale.Rows(begin / rows, CeilDiv(end, rows));
    return slice;
  }
  const int64_t cols = matrix.scale.dim(1);
  E8M0* scales = static_cast<E8M0*>(NewBuffer((end - begin) * cols));
  for (int64_t r = begin; r < end; ++r) {
    std::memcpy(scales + (r - begin) * cols, matrix.scale.Row<E8M0>(r / matrix.block_rows), size_t(cols));
  }
  slice.scale = TensorView(scales, DType::kE8M0, {end - begin, cols});
  slice.block_rows = 1;
  return slice;
}

void WeightLoader::RejectUnused(std::span<const std::string> allowed_prefixes) {
  std::string_view first;
  int64_t count = 0;
  for (const auto& [canonical, entry] : index_) {
    if (entry.used) continue;
    const std::string_view name = canonical;
    const bool allowed = std::any_of(allowed_prefixes.begin(), allowed_prefixes.end(),
                                     [&](const std::string& p) { return name.starts_with(p); });
    if (allowed) continue;
    if (count++ == 0 || entry.info->name < first) first = entry.info->name;
  }
  if (count == 0) return;
  const std::string others = count > 1 ? fmt::format(" (and {} more)", count - 1) : "";
  Fail(InvalidArgument(fmt::format("{}: tensor '{}'{} does not belong to this model", files_.path(), first, others)));
}

}  // namespace vexil
