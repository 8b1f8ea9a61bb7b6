// The conformance mechanism: op x kernel x case, against a float64 reference.
//
// Every op specialises Conformance<Op> in ops/<op>/cases.h:
//
//   template <> struct Conformance<RmsNorm> {
//     struct Case { ... };                                     // plain data
//     static std::vector<Case> Cases(Tier tier);               // kSmoke is a subset of kFull
//     static std::string Describe(const Case&);                // "rows=17,d=129,dtype=BF16": unique, no spaces
//     static RmsNorm::Args Build(const Case&, TestArena&);     // inputs filled, outputs poisoned
//     static std::vector<Expected> Reference(const RmsNorm::Args&);   // float64, reads like the formula
//     static std::vector<std::string_view> Faults();           // planted in the plain kernel (ops/fault.h)
//   };
//
// Reference() runs before the kernel (which may work in place) and returns one Expected per output tensor:
// the tensor, the wanted value of each element and the largest error allowed for that element, derived from
// the dtype and the length of the reduction, never from what passed.
#pragma once

#include <cmath>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"

namespace vexil {

enum class Tier { kSmoke, kFull };

template <class Op>
struct Conformance;

// One output of an op call.
struct Expected {
  std::string_view name;
  TensorView output;
  std::vector<double> value;      // row-major over output's dims
  std::vector<double> tolerance;  // same length; 0 demands equality; NaN value demands NaN
};

// Unit round-off of a dtype: the largest relative error of one rounding.
constexpr double Epsilon(DType t) {
  switch (t) {
    case DType::kF32: return 0x1p-24;
    case DType::kBF16: return 0x1p-8;   // half an ulp of 8 significant bits, relative to the binade
    case DType::kF16: return 0x1p-11;
    default: return 0;
  }
}

// Element values of a view as float64, row-major; strided views included. Codes of block formats (E4M3, E8M0)
// become their values, integers themselves.
std::vector<double> ToF64(const TensorView& t);
// The dequantised values [n, k] of a block-scaled tensor.
std::vector<double> Dequantize(const QuantView& q);
// Rounding of a float64 to nearest even in a dtype (F32 or BF16), for references of ops with inner roundings.
double RoundTo(DType t, double v);

// Owns the buffers of one case. Every buffer is fenced with guard bytes on both sides.
class TestArena {
 public:
  explicit TestArena(uint64_t seed) : rng_(seed) {}

  // Filled with 0xff: NaN in every float format, -1 in every integer.
  MutTensorView Poison(DType dtype, Dims dims);
  // Normal values, mean 0 unless given, rounded to the dtype (F32, BF16, F16).
  MutTensorView Normal(DType dtype, Dims dims, double stddev = 1, double mean = 0);
  MutTensorView Uniform(DType dtype, Dims dims, double low, double high);
  // Random codes without NaN. E4M3 and E2M1x2: every finite code; I8: -127..127.
  MutTensorView Codes(DType dtype, Dims dims);
  // E8M0 powers of two with exponents in [low, high].
  MutTensorView Scales(Dims dims, int low, int high);
  // Integers in [low, high].
  MutTensorView Integers(DType dtype, Dims dims, int64_t low, int64_t high);
  template <class T>
  MutTensorView Values(Dims dims, const std::vector<T>& values) {
    MutTensorView v = Make(DTypeOf<T>(), dims, 0);
    if (!values.empty()) std::memcpy(v.mut_raw(), values.data(), values.size() * sizeof(T));
    return v;
  }
  // A view whose rows are `padding` elements apart from each other in a wider poisoned buffer.
  MutTensorView Padded(DType dtype, Dims dims, int64_t padding);

  bool GuardsIntact() const;
  std::mt19937_64& rng() { return rng_; }

 private:
  static constexpr size_t kGuard = 64;
  MutTensorView Make(DType dtype, Dims dims, uint8_t fill);
  std::deque<std::vector<uint8_t>> buffers_;
  std::mt19937_64 rng_;
};

}  // namespace vexil
