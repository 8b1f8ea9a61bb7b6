#pragma once

#include <cmath>

#include "ops/linear/linear.h"
#include "ops/linear/operands.h"
#include "testing/conformance.h"

namespace vexil {

// Operands in each format, for Linear and GroupedLinear.
namespace linear_cases {

// Every code of the block formats is as likely as any other, so their values reach 448 and 6: the scales bring
// the sums back to about 1. Exponents near the lower end of E8M0 make scales that are f32 subnormals.
struct Exponents {
  int low = -10, high = -4;
};

inline QuantView Input(TestArena& m, DType dtype, int64_t n, int64_t k, int64_t padding, double stddev) {
  const Dims wide = {n, k + padding};
  if (dtype != DType::kE4M3) return m.Normal(dtype, wide, stddev).Columns(0, k);
  const int64_t blocks = CeilDiv(k, kE4M3Block);
  return QuantView(m.Codes(dtype, wide).Columns(0, k), m.Scales({n, blocks + padding}, -10, -4).Columns(0, blocks), 1,
                   kE4M3Block);
}

inline QuantView Weight(TestArena& m, DType dtype, int64_t n, int64_t k, Exponents e = {}) {
  switch (dtype) {
    case DType::kE4M3:
      return QuantView(m.Codes(dtype, {n, k}),
                       m.Scales({CeilDiv(n, kE4M3Block), CeilDiv(k, kE4M3Block)}, e.low, e.high), kE4M3Block,
                       kE4M3Block);
    case DType::kE2M1x2:
      return QuantView(m.Codes(dtype, {n, k / 2}), m.Scales({n, CeilDiv(k, kE2M1Block)}, e.low, e.high), 1, kE2M1Block);
    case DType::kI8:
      return QuantView(m.Codes(dtype, {n, k}), m.Uniform(DType::kF32, {n}, 1e-3, 1e-2), 1, k);
    default:
      return m.Normal(dtype, {n, k});
  }
}

// The values that a weight stands for when y has the given dtype: the product with an I8 scale is rounded.
inline std::vector<double> WeightValues(const QuantView& w, DType y) {
  std::vector<double> v = Dequantize(w);
  if (w.data.dtype() == DType::kI8) {
    for (double& e : v) e = RoundTo(y, RoundTo(DType::kF32, e));
  }
  return v;
}

// Appends sum_k x[k] w[k] and its tolerance: one rounding to y's dtype, and f32 roundings of the K products and
// sums, which are independent, so that their sum grows like the root of their number.
inline void AddProduct(Expected& y, const double* x, const double* w, int64_t k) {
  double sum = 0, magnitude = 0;
  for (int64_t i = 0; i < k; ++i) {
    sum += x[i] * w[i];
    magnitude += std::abs(x[i] * w[i]);
  }
  y.value.push_back(sum);
  y.tolerance.push_back(Epsilon(y.output.dtype()) * std::abs(sum) +
                        (std::sqrt(double(k)) + 2) * Epsilon(DType::kF32) * magnitude + 1e-40);
}

inline constexpr DType kInputs[] = {DType::kF32, DType::kBF16, DType::kE4M3};
inline constexpr DType kWeights[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kE4M3, DType::kE2M1x2, DType::kI8};

}  // namespace linear_cases

template <>
struct Conformance<Linear> {
  struct Case {
    int64_t n, k, out;
    DType x, w, y;
    int64_t padding = 0;  // of the rows of x and y
    bool tiny_scales = false;
    bool row_scales = false;  // an E4M3 weight with blocks {1, 128}
  };

  static std::vector<Case> Cases(Tier tier) {
    const DType f32 = DType::kF32, bf16 = DType::kBF16;
    std::vector<Case> cases;
    for (DType x : linear_cases::kInputs) {
      for (DType w : linear_cases::kWeights) {
        cases.push_back({3, 130, 131, x, w, f32});
        cases.push_back({5, 514, 7, x, w, bf16, 3});
        if (tier == Tier::kSmoke) continue;
        cases.push_back({0, 64, 5, x, w, bf16});
        cases.push_back({1, 2, 1, x, w, f32});
        cases.push_back({1, 30, 3, x, w, bf16});
        cases.push_back({6, 300, 258, x, w, f32, 1});
        cases.push_back({37, 96, 33, x, w, bf16});
        cases.push_back({2, 4096, 130, x, w, x == f32 ? f32 : bf16});
      }
    }
    cases.push_back({3, 300, 140, bf16, DType::kE4M3, bf16, 0, false, true});
    for (DType w : {f32, bf16, DType::kF16, DType::kI8}) cases.push_back({2, 1, 3, f32, w, f32});
    for (DType w : {DType::kE4M3, DType::kE2M1x2}) cases.push_back({2, 160, 5, f32, w, f32, 0, true});
    if (tier == Tier::kFull) {
      cases.push_back({200, 192, 70, bf16, DType::kE4M3, bf16});
      cases.push_back({1, 2048, 4096, DType::kE4M3, DType::kE2M1x2, bf16});
      cases.push_back({1, 8192, 1024, DType::kE4M3, DType::kE4M3, bf16});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",k=" + std::to_string(c.k) + ",N=" + std::to_string(c.out) +
           ",x=" + NameOf(c.x) + ",w=" + NameOf(c.w) + ",y=" + NameOf(c.y) + (c.padding ? ",strided" : "") +
           (c.tiny_scales ? ",tiny_scales" : "") + (c.row_scales ? ",row_scales" : "");
  }
  static Linear::Args Build(const Case& c, TestArena& m) {
    const linear_cases::Exponents exponents =
        c.tiny_scales ? linear_cases::Exponents{-127, -125} : linear_cases::Exponents{};
    const QuantView row_scaled(m.Codes(DType::kE4M3, {c.row_scales ? c.out : 1, c.k}),
                               m.Scales({c.row_scales ? c.out : 1, CeilDiv(c.k, kE4M3Block)}, -10, -4), 1,
                               kE4M3Block);
    return {.x = linear_cases::Input(m, c.x, c.n, c.k, c.padding, c.tiny_scales ? 1e30 : 1),
            .w = c.row_scales ? row_scaled : linear_cases::Weight(m, c.w, c.out, c.k, exponents),
            .y = m.Padded(c.y, {c.n, c.out}, c.padding)};
  }
  static std::vector<Expected> Reference(const Linear::Args& a) {
    const std::vector<double> x = Dequantize(a.x), w = linear_cases::WeightValues(a.w, a.y.dtype());
    const int64_t k = a.x.Columns();
    Expected y{"y", a.y, {}, {}};
    for (int64_t i = 0; i < a.y.dim(0); ++i) {
      for (int64_t j = 0; j < a.y.dim(1); ++j) linear_cases::AddProduct(y, &x[size_t(i * k)], &w[size_t(j * k)], k);
    }
    return {y};
  }
  static std::vector<std::string_view> Faults() {
    return {"first_block_scale", "scale_of_first_tile", "swapped_nibbles",
            "unrounded_i8",      "dropped_tail",        "truncated_output"};
  }
};

}  // namespace vexil
