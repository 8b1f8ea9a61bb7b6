// The operands of Linear and GroupedLinear: what Check() demands of them, and their values as f32.
#pragma once

#include "base/tensor.h"

namespace vexil {

// Blocks of the formats that matrix products read (spec: quantization, section 2).
inline constexpr int64_t kE4M3Block = 128;
inline constexpr int64_t kE2M1Block = 32;

// The sum of this many products of two int8 codes fits int32.
inline constexpr int64_t kMaxInt8Width = int64_t(1) << 17;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Why `x` cannot be the left operand or `w` the weight: a literal, or null when it can.
const char* RefuseInput(const QuantView& x);
const char* RefuseWeight(const QuantView& w);
// The same for two operands that are fine alone.
const char* RefusePair(const QuantView& x, const QuantView& w);
// Whether two weights have the same shape, formats and blocks.
bool SameFormat(const QuantView& a, const QuantView& b);

// out[i] = the value of element (row, begin + i) of q, for begin + i < end: code * scale, both exact in f32.
// The product of an I8 code and its scale is not exact: it is rounded to `i8_product`, F32 or BF16.
void DecodeRow(const QuantView& q, int64_t row, int64_t begin, int64_t end, DType i8_product, float* out);

}  // namespace vexil
