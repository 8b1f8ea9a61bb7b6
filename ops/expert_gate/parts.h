// Operands of the experts, for the cases of ExpertGate and ExpertDown.
#pragma once

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "ops/linear/cases.h"
#include "ops/quantize_activation/reference.h"

namespace vexil::expert_cases {

// Who gets which rows.
struct Routing {
  std::vector<int32_t> pairs;   // of each routed expert; empty: no routed experts
  int64_t tokens;               // rows of x
  std::optional<DType> shared;  // format of the shared expert's weights, if there is one

  int64_t Pairs() const {
    int64_t sum = 0;
    for (int32_t p : pairs) sum += p;
    return sum;
  }
};

// `tokens` that each pick 6 of 256 at random, and a shared expert in E4M3: V4-Flash.
inline Routing TopSix(int64_t tokens) {
  Routing r{std::vector<int32_t>(256, 0), tokens, DType::kE4M3};
  std::mt19937_64 rng(7);
  for (int64_t i = 0; i < tokens * 6; ++i) ++r.pairs[rng() % r.pairs.size()];
  return r;
}

inline std::string Describe(const Routing& r) {
  std::string pairs;
  for (int32_t p : r.pairs) pairs += (pairs.empty() ? "" : "_") + std::to_string(p);
  if (r.pairs.size() > 8) pairs = std::to_string(r.pairs.size()) + "_experts";
  return "pairs=" + (pairs.empty() ? "none" : pairs) + ",tokens=" + std::to_string(r.tokens) +
         (r.shared ? std::string(",shared=") + NameOf(*r.shared) : "");
}

// Input and weights whose products are a few units large.
inline QuantView Input(TestArena& m, DType dtype, int64_t n, int64_t k) {
  return linear_cases::Input(m, dtype, n, k, 0, 0.2);
}
inline QuantView Weight(TestArena& m, DType dtype, int64_t n, int64_t k) {
  return linear_cases::Weight(m, dtype, n, k,
                              dtype == DType::kE4M3 ? linear_cases::Exponents{-16, -10} : linear_cases::Exponents{});
}

inline TensorView Offsets(TestArena& m, const Routing& r) {
  std::vector<int32_t> offsets = {0};
  for (int32_t p : r.pairs) offsets.push_back(offsets.back() + p);
  return m.Values<int32_t>({int64_t(offsets.size())}, offsets);
}

// Experts without pairs share one weight, which nobody may read. Of many experts with pairs, some share theirs, to save
// memory.
inline std::span<const QuantView> Weights(TestArena& m, const Routing& r, DType w, int64_t n, int64_t k) {
  constexpr size_t kDistinct = 64;
  const std::span<QuantView> views = m.Views<QuantView>(r.pairs.size());
  std::vector<QuantView> used;
  QuantView unused;
  for (size_t e = 0, i = 0; e < views.size(); ++e) {
    if (r.pairs[e] == 0 && !unused.data.empty()) {
      views[e] = unused;
    } else if (r.pairs[e] != 0 && used.size() == kDistinct) {
      views[e] = used[i++ % kDistinct];
    } else {
      views[e] = Weight(m, w, n, k);
      if (r.pairs[e] == 0) unused = views[e];
      if (r.pairs[e] != 0) used.push_back(views[e]);
    }
  }
  return views;
}
inline std::span<const QuantView> SharedWeight(TestArena& m, const Routing& r, int64_t n, int64_t k) {
  const std::span<QuantView> views = m.Views<QuantView>(1);
  views[0] = Weight(m, *r.shared, n, k);
  return views;
}

// The expert of row p of an operand with these offsets (empty: one expert).
inline size_t ExpertOf(const TensorView& offsets, int64_t p) {
  size_t e = 0;
  while (!offsets.empty() && offsets.Data<int32_t>()[e + 1] <= p) ++e;
  return e;
}

// Rows of a product with their tolerances, as outputs of dtype `y`.
class Products {
 public:
  Products(const QuantView& x, DType y) : x_(x), values_(Dequantize(x)), y_(y) {}
  // x becomes what QuantizeActivation makes of it.
  void RoundInput() {
    const int64_t k = x_.Columns();
    for (int64_t i = 0; i < int64_t(values_.size()); i += std::min(kE4M3Block, k - i % k)) {
      const int64_t n = std::min(kE4M3Block, k - i % k);
      const RoundedBlock block = RoundBlock(&values_[size_t(i)], n, E4M3Format());
      for (int64_t j = 0; j < n; ++j) values_[size_t(i + j)] = block.codes[size_t(j)] * block.scale;
    }
  }
  Expected Row(int64_t row, const QuantView& w) {
    const int64_t k = x_.Columns();
    if (w.data.raw() != last_) {
      last_ = w.data.raw();
      weights_ = linear_cases::WeightValues(w, y_);
    }
    Expected e{"product", TensorView(this, y_, {1}), {}, {}};
    for (int64_t j = 0; j < w.data.dim(0); ++j) {
      x_.data.dtype() == DType::kI8
          ? linear_cases::AddInt8Product(e, x_, row, w, j)
          : linear_cases::AddProduct(e, x_.data.dtype(), &values_[size_t(row * k)], &weights_[size_t(j * k)], k);
    }
    return e;
  }

 private:
  QuantView x_;
  std::vector<double> values_, weights_;
  const void* last_ = nullptr;
  DType y_;
};

// Bytes of the weights that some row needs.
inline double UsedBytes(const TensorView& offsets, std::span<const QuantView> w) {
  double bytes = 0;
  for (size_t e = 0; e < w.size(); ++e) {
    const bool used = offsets.empty() || offsets.Data<int32_t>()[e] != offsets.Data<int32_t>()[e + 1];
    if (used) bytes += linear_cases::BytesOf(w[e]);
  }
  return bytes;
}

}  // namespace vexil::expert_cases
