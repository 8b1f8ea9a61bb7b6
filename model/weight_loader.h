// Finds, checks and converts the tensors of a checkpoint one by one. Internal to model/weights.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "io/checkpoint_files.h"

namespace vexil {

// Keeps the first error, so a caller may ask for many tensors and look at TakeStatus() once; after an error every
// result is an empty view.
class WeightLoader {
 public:
  using Converted = std::vector<std::unique_ptr<std::byte[]>>;

  // Indexes the files by canonical name (two tensors with the same one are an error). Converted tensors are
  // appended to `converted`; both must outlive the views handed out.
  WeightLoader(const CheckpointFiles& files, Converted& converted);

  bool Has(const std::string& name) const { return index_.contains(name); }

  // A plain float tensor (F32, BF16 or F16) of exactly these dims, as stored.
  TensorView Plain(const std::string& name, Dims dims);
  // The same, converted to F32 if it is stored otherwise; every element must be finite.
  TensorView AsF32(const std::string& name, Dims dims);
  // [rows, cols] I64 or I32, converted to I32; every value in [0, limit) and distinct within its row.
  TensorView IndexTable(const std::string& name, int64_t rows, int64_t cols, int64_t limit);
  // `stem`.weight [n, k] in any format, with its `stem`.scale if the format has one (spec: quantization, 3 and 8).
  QuantView Matrix(const std::string& stem, int64_t n, int64_t k);
  // Entry e of a stacked tensor [count, rows, k] of floats or of blocks that hold their scale, rows
  // [first, first + n) of it.
  QuantView StackedMatrix(const std::string& name, int64_t count, int64_t rows, int64_t k, int64_t e, int64_t first,
                          int64_t n);

  // Rows [begin, end) of a matrix. A slice that begins inside a scale tile gets its scales repeated per row
  // (block_rows 1).
  QuantView RowSlice(const QuantView& matrix, int64_t begin, int64_t end);

  // Reports tensors that nobody asked for, unless `allowed` starts their name.
  void RejectUnused(std::span<const std::string> allowed_prefixes);

  void Fail(Status status);
  bool ok() const { return status_.ok(); }
  Status TakeStatus() { return std::move(status_); }
  bool saw_quantized() const { return saw_quantized_; }

 private:
  struct Entry {
    const TensorInfo* info;
    bool used = false;
  };
  const TensorInfo* Take(const std::string& name);
  // "FILE: tensor 'NAME': " of a stored tensor.
  std::string Where(const TensorInfo& info) const;
  bool ExpectDims(const TensorInfo& info, Dims dims);
  QuantView E4M3Matrix(const std::string& stem, const TensorInfo& w, int64_t n, int64_t k);
  QuantView PackedE2M1Matrix(const std::string& stem, const TensorInfo& w, int64_t n, int64_t k);
  QuantView BlockMatrix(const TensorInfo& w, Dims dims);
  QuantView Int8Matrix(const std::string& stem, const TensorInfo& w, int64_t n, int64_t k);
  TensorView Scales(const std::string& stem, int64_t rows, int64_t cols);
  void* NewBuffer(int64_t bytes);

  const CheckpointFiles& files_;
  Converted& converted_;
  std::unordered_map<std::string, Entry> index_;
  Status status_;
  bool saw_quantized_ = false;
};

// "[2048, 4096]"
std::string DimsText(const Dims& dims);

}  // namespace vexil
