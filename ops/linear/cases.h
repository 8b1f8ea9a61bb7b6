#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

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
  if (dtype == DType::kI8)
    return QuantView(m.Codes(dtype, wide).Columns(0, k), m.Uniform(DType::kF32, {n}, 1e-3, 1e-2), 1, k);
  if (dtype != DType::kE4M3) return m.Normal(dtype, wide, stddev).Columns(0, k);
  const int64_t blocks = CeilDiv(k, kE4M3Block);
  return QuantView(m.Codes(dtype, wide).Columns(0, k), m.Scales({n, blocks + padding}, -10, -4).Columns(0, blocks), 1,
                   kE4M3Block);
}

// A random block of the formats that hold their scale.
inline Q8_0 RandomBlock(TestArena& m, Q8_0) {
  Q8_0 block{F16::From(std::uniform_real_distribution<float>(1e-3f, 1e-2f)(m.rng())), {}};
  for (int8_t& c : block.codes) c = int8_t(m.rng()());
  return block;
}
inline MXFP4 RandomBlock(TestArena& m, Exponents e) {
  MXFP4 block{E8M0::FromExponent(std::uniform_int_distribution<int>(e.low, e.high)(m.rng())), {}};
  for (uint8_t& p : block.pairs) p = uint8_t(m.rng()());
  return block;
}
template <class Block, class Seed>
QuantView BlockWeight(TestArena& m, int64_t n, int64_t k, Seed seed) {
  std::vector<Block> blocks;
  for (int64_t i = 0; i < n * k / kBlockElements; ++i) blocks.push_back(RandomBlock(m, seed));
  return QuantView(m.Values<Block>({n, k / kBlockElements}, blocks));
}

// The next width that a weight of this format can have.
inline int64_t WidthFor(DType w, int64_t k) {
  const int64_t unit = ElementsOf(w) == kBlockElements ? kBlockElements : 1;
  return CeilDiv(k, unit) * unit;
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
    case DType::kQ8_0:
      return BlockWeight<Q8_0>(m, n, k, Q8_0{});
    case DType::kMXFP4:
      return BlockWeight<MXFP4>(m, n, k, e);
    default:
      return m.Normal(dtype, {n, k});
  }
}

// Rows of an E4M3 matrix that begin inside a tile: a scale for each row.
inline QuantView Slice(TestArena& m, int64_t n, int64_t k) {
  return QuantView(m.Codes(DType::kE4M3, {n, k}), m.Scales({n, CeilDiv(k, kE4M3Block)}, -10, -4), 1, kE4M3Block);
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
// sums, which are independent, so that their sum grows like the root of their number. Instructions that multiply
// BF16 take subnormal operands and results for zero: with x of another dtype than F32 each of the K products and sums
// may lose 2^-126, or 2^-126 times the other factor.
//
// FP8 tensor cores add the products of a block of 128 columns in fixed point, 14 bits below the largest of them: each
// product and each of the partial sums between instructions may lose one such bit.
inline void AddProduct(Expected& y, DType x_dtype, const double* x, const double* w, int64_t k) {
  constexpr double kFp8Bits = 0x1p-13;
  double sum = 0, magnitude = 0, flushed = 0, largest = 0, fp8_error = 0;
  for (int64_t i = 0; i < k; ++i) {
    const double product = x[i] * w[i];
    sum += product;
    magnitude += std::abs(product);
    if (x_dtype != DType::kF32) flushed += 0x1p-126 * (2 + std::abs(x[i]) + std::abs(w[i]));
    largest = std::max(i % kE4M3Block == 0 ? 0 : largest, std::abs(product));
    if (i % kE4M3Block == kE4M3Block - 1 || i + 1 == k) fp8_error += double(kE4M3Block + 4) * kFp8Bits * largest;
  }
  y.value.push_back(sum);
  y.tolerance.push_back(Epsilon(y.output.dtype()) * std::abs(sum) +
                        (std::sqrt(double(k)) + 2) * Epsilon(DType::kF32) * magnitude + flushed + 1e-40);
  y.coarse_tolerance.push_back(y.tolerance.back() + fp8_error);
}

// The same for the codes of I8 x and I8 w, whose sum is exact: the conversion to f32, the two scales and y's dtype
// round.
inline void AddInt8Product(Expected& y, const QuantView& x, int64_t row, const QuantView& w, int64_t column) {
  double sum = 0;
  for (int64_t i = 0; i < x.Columns(); ++i) sum += double(x.data.Row<int8_t>(row)[i]) * w.data.Row<int8_t>(column)[i];
  const double v = sum * x.scale.Data<float>()[row] * ToF64(w.scale)[size_t(column)];
  y.value.push_back(v);
  y.tolerance.push_back((Epsilon(y.output.dtype()) + 4 * Epsilon(DType::kF32)) * std::abs(v) + 1e-40);
  y.coarse_tolerance.push_back(y.tolerance.back());
}

inline constexpr DType kInputs[] = {DType::kF32, DType::kBF16, DType::kE4M3};
inline constexpr DType kWeights[] = {DType::kF32,    DType::kBF16, DType::kF16,  DType::kE4M3,
                                     DType::kE2M1x2, DType::kI8,   DType::kQ8_0, DType::kMXFP4};

// For Cost(): bytes of codes and scales, "x x w" and the arithmetic that the product can use at best.
inline double BytesOf(const QuantView& q) { return TotalBytes({q.data, q.scale}); }
inline std::string NameOfProduct(const QuantView& x, const QuantView& w) {
  return std::string(NameOf(x.data.dtype())) + "*" + NameOf(w.data.dtype());
}
inline ComputeUnit UnitOf(const QuantView& x, const QuantView& w) {
  const bool f32 = x.data.dtype() == DType::kF32 || w.data.dtype() == DType::kF32;
  return f32 ? ComputeUnit::kF32 : ComputeUnit::kBf16;
}

}  // namespace linear_cases

template <>
struct Conformance<Linear> {
  struct Case {
    int64_t n, k, out;
    DType x, w, y;
    int64_t padding = 0;  // of the rows of x and y
    bool tiny_scales = false;
    bool row_scales = false;  // an E4M3 weight with blocks {1, 128}
    bool large_scales = false;
  };

  static std::vector<Case> PerfCases() {
    std::vector<Case> cases;
    const DType bf16 = DType::kBF16;
    for (DType w : {bf16, DType::kE4M3, DType::kE2M1x2, DType::kI8, DType::kF32}) {
      const bool rounded = w == DType::kE4M3 || w == DType::kE2M1x2;
      for (int64_t n : kPerfTokens) {
        for (const auto& [k, out] : {std::pair<int64_t, int64_t>{2048, 4096}, {4096, 8192}}) {
          cases.push_back({n, k, out, rounded ? DType::kE4M3 : bf16, w, bf16});
          if (rounded && n == 1) cases.push_back({n, k, out, bf16, w, bf16});
        }
      }
    }
    for (int64_t n : {1, 16, 512}) {
      cases.push_back({n, 1024, 32768, DType::kE4M3, DType::kE4M3, bf16});  // wq_b
      cases.push_back({n, 8192, 4096, DType::kE4M3, DType::kE4M3, bf16});   // wo_b
      cases.push_back({n, 4096, 24, bf16, bf16, DType::kF32});              // few outputs
    }
    for (int64_t out : {64, 256, 1024})
      cases.push_back({8192, 4096, out, bf16, bf16, DType::kF32});  // compressor, router
    for (int64_t n : {1, 4}) {
      cases.push_back({n, 4096, 129280, bf16, bf16, DType::kF32});  // head
      cases.push_back({n, 4096, 129280, DType::kE4M3, DType::kE4M3, DType::kF32});
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    const DType f32 = DType::kF32, bf16 = DType::kBF16;
    std::vector<Case> cases;
    const auto add_formats = [&](DType x, DType w) {
      const auto k = [w](int64_t width) { return linear_cases::WidthFor(w, width); };
      cases.push_back({3, k(130), 131, x, w, f32});
      cases.push_back({5, k(514), 7, x, w, bf16, 3});
      if (tier == Tier::kSmoke) return;
      cases.push_back({0, 64, 5, x, w, bf16});
      cases.push_back({1, k(2), 1, x, w, f32});
      cases.push_back({1, k(30), 3, x, w, bf16});
      cases.push_back({6, k(300), 258, x, w, f32, 1});
      cases.push_back({37, 96, 33, x, w, bf16});
      cases.push_back({20, k(200), 70, x, w, bf16});
      cases.push_back({48, 256, 64, x, w, f32});
      cases.push_back({2, 4096, 130, x, w, x == f32 ? f32 : bf16});
    };
    for (DType x : linear_cases::kInputs) {
      for (DType w : linear_cases::kWeights) add_formats(x, w);
    }
    add_formats(DType::kI8, DType::kI8);
    cases.push_back({3, 300, 140, bf16, DType::kE4M3, bf16, 0, false, true});
    for (DType w : {f32, bf16, DType::kF16, DType::kI8}) cases.push_back({2, 1, 3, f32, w, f32});
    for (DType w : {DType::kE4M3, DType::kE2M1x2, DType::kMXFP4}) cases.push_back({2, 160, 5, f32, w, f32, 0, true});
    for (DType w : {bf16, DType::kE4M3}) {  // many rows of BF16: tiles that are not full, one column tile and several
      cases.push_back({65, 128, 24, bf16, w, f32, 4});
      cases.push_back({130, 320, 64, bf16, w, bf16, 8});
    }
    if (tier == Tier::kFull) {
      for (DType w : {bf16, DType::kE4M3}) {
        cases.push_back({257, 192, 200, bf16, w, f32});
        cases.push_back({2100, 64, 1000, bf16, w, bf16});  // tiles of 256 columns; more of rows than go together
        cases.push_back({96, 2048, 136, bf16, w, bf16});
      }
      cases.push_back({150, 320, 264, bf16, DType::kE4M3, bf16, 0, false, true});
      cases.push_back({70, 192, 136, bf16, DType::kE4M3, f32, 0, false, false, true});
      cases.push_back({200, 192, 70, bf16, DType::kE4M3, bf16});
      cases.push_back({1, 2048, 4096, DType::kE4M3, DType::kE2M1x2, bf16});
      cases.push_back({100, 256, 264, DType::kE4M3, DType::kE4M3, bf16});
      cases.push_back({19, 1024, 48, DType::kE4M3, DType::kE2M1x2, f32});
      cases.push_back({9, 512, 40, bf16, bf16, f32});
      cases.push_back({1, 8192, 1024, DType::kE4M3, DType::kE4M3, bf16});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    return "n=" + std::to_string(c.n) + ",k=" + std::to_string(c.k) + ",N=" + std::to_string(c.out) +
           ",x=" + NameOf(c.x) + ",w=" + NameOf(c.w) + ",y=" + NameOf(c.y) + (c.padding ? ",strided" : "") +
           (c.tiny_scales ? ",tiny_scales" : "") + (c.row_scales ? ",row_scales" : "") +
           (c.large_scales ? ",large_scales" : "");
  }
  static Linear::Args Build(const Case& c, TestArena& m) {
    const linear_cases::Exponents exponents = c.tiny_scales    ? linear_cases::Exponents{-127, -125}
                                              : c.large_scales ? linear_cases::Exponents{5, 12}
                                                               : linear_cases::Exponents{};
    return {
        .x = linear_cases::Input(m, c.x, c.n, c.k, c.padding, c.tiny_scales ? 1e30 : 1),
        .w = c.row_scales ? linear_cases::Slice(m, c.out, c.k) : linear_cases::Weight(m, c.w, c.out, c.k, exponents),
        .y = m.Padded(c.y, {c.n, c.out}, c.padding)};
  }
  static std::vector<Expected> Reference(const Linear::Args& a) {
    const std::vector<double> x = Dequantize(a.x), w = linear_cases::WeightValues(a.w, a.y.dtype());
    const int64_t k = a.x.Columns();
    const bool int8 = a.x.data.dtype() == DType::kI8;
    Expected y{"y", a.y, {}, {}};
    for (int64_t i = 0; i < a.y.dim(0); ++i) {
      for (int64_t j = 0; j < a.y.dim(1); ++j) {
        int8 ? linear_cases::AddInt8Product(y, a.x, i, a.w, j)
             : linear_cases::AddProduct(y, a.x.data.dtype(), &x[size_t(i * k)], &w[size_t(j * k)], k);
      }
    }
    return {y};
  }
  static OpCost Cost(const Linear::Args& a) {
    return {linear_cases::NameOfProduct(a.x, a.w), a.y.dim(0),
            linear_cases::BytesOf(a.x) + linear_cases::BytesOf(a.w) + TotalBytes({a.y}),
            2 * Count(a.y) * double(a.x.Columns()), linear_cases::UnitOf(a.x, a.w)};
  }
  static std::vector<std::string_view> Faults() {
    return {"first_block_scale", "scale_of_first_tile", "swapped_nibbles",   "unrounded_i8",      "dropped_tail",
            "truncated_output",  "unscaled_q8_0",       "interleaved_mxfp4", "short_accumulator", "scale_of_first_row"};
  }
};

}  // namespace vexil
