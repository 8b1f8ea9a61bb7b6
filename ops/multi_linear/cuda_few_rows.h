// Several products y = x w^T of the same few rows in one launch, in E4M3 and BF16: decoding. As cuda_skinny.h, with the
// same bits.
#pragma once

#include "ops/linear/cuda_skinny.h"

namespace vexil::cuda {

constexpr int kFewRowsParts = 8;
constexpr int kFewRowsMaxK = 8192;

// What multiplies what; the order in which a launch goes through its parts.
enum class FewRowsFormat : uint8_t {
  kE4M3,          // codes of both
  kE4M3Rounding,  // the same, where x is BF16 and is rounded on the way in, as QuantizeActivation would
  kE4M3ByBF16,    // weight by x
  kBF16
};
constexpr int kFewRowsFormats = 4;

struct FewRowsPart {
  FewRowsFormat format;
  bool y_f32;      // or BF16
  int n_out;       // N
  int scale_rows;  // of E4M3 weights, as in SkinnyCall
  SkinnyMatrix w;
  void* y;  // [n, N], rows `y_stride` elements apart
  int64_t y_stride;
  float factor;  // of the rounded result, which is rounded once more
};

// All parts of a format have the same x: rows of K elements, `stride` bytes apart, 16-byte aligned.
struct FewRowsInput {
  const void* data;
  int64_t stride;
  const uint8_t* scale;  // of codes: E8M0 [row, K / 128]
  int64_t scale_stride;
};

struct FewRowsCall {
  int n, k;  // k: a multiple of 128, at most kFewRowsMaxK
  int parts;
  FewRowsInput codes, values;  // E4M3; BF16
  FewRowsPart part[kFewRowsParts];
};

cudaError_t FewRowsLinear(const Launch&, FewRowsCall);

}  // namespace vexil::cuda
