// The header of a safetensors file: text -> validated entries. No file access, no views.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/tensor.h"
#include "io/safetensors.h"

namespace vexil {

// The header length in front of the header.
inline constexpr int64_t kSafetensorsPrefixBytes = 8;

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their bytes; without views
  SafetensorsMetadata metadata;
};

// The JSON part of a file that begins with `bytes`: the length is read and checked. kDataLoss.
Result<std::string_view> FindSafetensorsHeader(std::span<const uint8_t> bytes);

// Parses and checks all of it against a data section of `data_bytes` bytes that starts `data_begin` bytes into the
// file. kDataLoss, or kUnsupported for an element type or a rank.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view text, int64_t data_begin, int64_t data_bytes);

// Bytes of a dense tensor. kInvalidArgument when a dimension is negative or the product of all dimensions but the zeros
// does not fit int64: strides are such products, also those of a tensor without elements.
Result<int64_t> DenseBytes(DType dtype, const Dims& dims);

// "BF16 [2, 3]", for messages.
std::string DescribeTensor(DType dtype, const Dims& dims);

}  // namespace vexil
