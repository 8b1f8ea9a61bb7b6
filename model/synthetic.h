// Weights without a checkpoint: random and well scaled, in the formats of the published checkpoints, for measuring
// models of any size. Nobody learned them, so the text that they write is noise.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "base/tensor.h"
#include "device/device.h"

namespace vexil {

// Stands in for a WeightLoader (model/weight_loader.h) with the same calls: any tensor asked for is there. The views it
// hands out have addresses only after Fill().
class SyntheticTensors {
 public:
  explicit SyntheticTensors(uint64_t seed) : seed_(seed) {}

  bool Has(const std::string&) const { return false; }  // no stacked experts
  TensorView Plain(const std::string& name, Dims dims);
  TensorView AsF32(const std::string& name, Dims dims);
  TensorView IndexTable(const std::string& name, int64_t rows, int64_t cols, int64_t limit);
  QuantView Matrix(const std::string& stem, int64_t n, int64_t k);
  QuantView StackedMatrix(const std::string&, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) { return {}; }
  QuantView RowSlice(const QuantView& matrix, int64_t begin, int64_t end);
  bool ok() const { return true; }
  void Fail(const Status&) { VX_CHECK(false, "whatever is asked for fits"); }
  bool saw_quantized() const { return true; }

  int64_t bytes() const { return bytes_; }
  // Tensors that follow each other, from the one that has the address `first` before Fill() on, and are made in host
  // memory of their own.
  struct Elsewhere {
    const void* first;
    const PinnedBuffer& memory;
  };
  // Makes the values, on the device or in host memory (null) of `bytes()` bytes less those that are elsewhere
  // (ascending), and gives the views their addresses. On a device only a few blocks of random values are uploaded; the
  // rest is copies within it.
  Status Fill(Device* device, void* memory, std::span<TensorView* const> views,
              std::span<const Elsewhere> elsewhere = {});

 private:
  // What a tensor is filled with.
  enum class Values : uint8_t { kOnes, kZeros, kNormal, kSmallNormal, kBf16, kE4M3, kE2M1, kScale, kTable };
  struct Part {
    int64_t offset, bytes;
    Values values;
    int64_t columns = 0, limit = 0;  // kTable
    uint8_t scale = 0;               // kScale
  };
  TensorView New(DType dtype, Dims dims, Part part);
  std::vector<uint8_t> Block(Values values) const;
  Status FillPart(Device* device, char* to, const Part& part, const std::vector<std::vector<uint8_t>>& host,
                  const std::vector<char*>& blocks, size_t& turn) const;

  uint64_t seed_;
  int64_t bytes_ = 0;
  std::vector<Part> parts_;
};

}  // namespace vexil
