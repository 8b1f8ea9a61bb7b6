#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "ops/sparse_attention/sparse_attention.h"
#include "testing/conformance.h"
#include "testing/interval.h"

namespace vexil {

template <>
struct Conformance<SparseAttention> {
  enum class Mask { kNone, kSome, kFirstBlock, kEnds, kAll };
  struct Case {
    int64_t n, heads, d, columns;
    int64_t window_rows, compressed_rows;  // 0: an empty view
    Mask mask;
    double sink;  // mean over the heads
    DType dtype;
    bool strided;
  };

  static std::vector<Case> PerfCases() {
    using enum Mask;
    std::vector<Case> cases;
    for (int64_t context : {512, 4096, 32768, 131072}) {
      for (int64_t n : {1, 4, 16, 128}) {
        const int64_t columns = 128 + std::min<int64_t>(context / 4, 512);
        cases.push_back({n, 64, 512, columns, 136, context / 4, kNone, 0, DType::kBF16, false});
      }
    }
    return cases;
  }
  static std::vector<Case> Cases(Tier tier) {
    if (tier == Tier::kPerf) return PerfCases();
    using enum Mask;
    std::vector<Case> cases;
    for (DType t : {DType::kF32, DType::kBF16}) {
      cases.push_back({3, 2, 7, 5, 4, 3, kSome, 0, t, false});
      cases.push_back({2, 3, 33, 130, 40, 60, kSome, 0, t, false});
      if (tier == Tier::kSmoke) continue;
      cases.push_back({0, 2, 8, 4, 0, 0, kNone, 0, t, false});
      cases.push_back({2, 2, 8, 0, 0, 0, kNone, 0, t, false});
      cases.push_back({1, 1, 1, 1, 0, 0, kNone, 0, t, false});
      cases.push_back({4, 1, 16, 3, 0, 0, kNone, 0, t, false});
      cases.push_back({3, 17, 24, 64, 0, 50, kNone, 1, t, false});
      cases.push_back({3, 5, 24, 65, 50, 0, kNone, -1, t, true});
      cases.push_back({2, 4, 40, 200, 100, 200, kFirstBlock, 0, t, false});
      cases.push_back({2, 4, 40, 200, 100, 200, kEnds, 0, t, true});
      cases.push_back({3, 4, 40, 130, 100, 200, kAll, 0, t, false});
      cases.push_back({2, 6, 32, 100, 20, 30, kSome, 10, t, false});
      cases.push_back({2, 6, 32, 100, 20, 30, kSome, -10, t, false});
      // Widths of matrix instructions, with heads and columns that do not fill them.
      cases.push_back({3, 16, 32, 5, 4, 3, kSome, 0, t, false});
      cases.push_back({1, 33, 64, 64, 20, 30, kNone, 0, t, true});
      cases.push_back({3, 40, 96, 200, 100, 200, kFirstBlock, 1, t, true});
      cases.push_back({3, 64, 128, 130, 100, 200, kAll, 0, t, false});
      cases.push_back({5, 32, 64, 97, 20, 30, kEnds, -10, t, false});
      cases.push_back({2, 64, 512, 128 + 512, 133, 700, kSome, 0, t, false});
      if (t == DType::kBF16) cases.push_back({66, 64, 512, 70, 20, 10, kSome, 0, t, false});
    }
    return cases;
  }
  static std::string Describe(const Case& c) {
    const char* masks[] = {"none", "some", "first_block", "ends", "all"};
    return "n=" + std::to_string(c.n) + ",heads=" + std::to_string(c.heads) + ",d=" + std::to_string(c.d) +
           ",columns=" + std::to_string(c.columns) + ",window=" + std::to_string(c.window_rows) +
           ",compressed=" + std::to_string(c.compressed_rows) + ",mask=" + masks[int(c.mask)] +
           ",sink=" + std::to_string(int(c.sink)) + ",dtype=" + NameOf(c.dtype) + (c.strided ? ",strided" : "");
  }
  static SparseAttention::Args Build(const Case& c, TestArena& m) {
    const int64_t padding = c.strided ? 3 : 0;
    const auto rows_of = [&](int64_t rows) {
      return rows == 0 ? MutTensorView() : m.Normal(c.dtype, {rows, c.d + padding}).Columns(0, c.d);
    };
    const int64_t step_rows = c.n + 1;
    // Queries of deviation 4 with this scale give logits of deviation 4: beyond +-8 in every long list.
    return {.q = m.Normal(c.dtype, {c.n, c.heads, c.d + padding}, 4).Columns(0, c.d),
            .rows = List(c, step_rows + c.window_rows + c.compressed_rows, m),
            .step_kv = rows_of(step_rows),
            .window_kv = rows_of(c.window_rows),
            .compressed_kv = rows_of(c.compressed_rows),
            .sink = m.Normal(DType::kF32, {c.heads}, 1.5, c.sink),
            .scale = float(1 / std::sqrt(double(c.d))),
            .y = m.Poison(c.dtype, {c.n, c.heads, c.d + padding}).Columns(0, c.d)};
  }
  static std::vector<Expected> Reference(const SparseAttention::Args& a) {
    const std::vector<double> q = ToF64(a.q), sink = ToF64(a.sink);
    std::vector<double> kv = ToF64(a.step_kv);
    for (const TensorView& pool : {a.window_kv, a.compressed_kv}) {
      if (pool.empty()) continue;
      const std::vector<double> rows = ToF64(pool);
      kv.insert(kv.end(), rows.begin(), rows.end());
    }
    const int64_t heads = a.q.dim(1), d = a.q.dim(2), columns = a.rows.dim(1);
    Expected y{"y", a.y, {}, {}};
    for (int64_t t = 0; t < a.q.dim(0); ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        Head head(&q[size_t((t * heads + h) * d)], d, double(a.scale), a.q.dtype());
        for (int64_t j = 0; j < columns; j += SparseAttention::kBlock) {
          head.AddBlock(a.rows.Row<int32_t>(t) + j, std::min(SparseAttention::kBlock, columns - j), kv.data());
        }
        head.Finish(sink[size_t(h)], y);
      }
    }
    return {y};
  }
  static OpCost Cost(const SparseAttention::Args& a) {
    std::set<int32_t> distinct;
    double listed = 0;
    for (int64_t t = 0; t < a.q.dim(0); ++t) {
      for (int64_t j = 0; j < a.rows.dim(1); ++j) {
        const int32_t row = a.rows.Row<int32_t>(t)[j];
        if (row < 0) continue;
        distinct.insert(row);
        ++listed;
      }
    }
    const double row_bytes = double(a.q.dim(2) * BytesOf(a.q.dtype()));
    return {NameOf(a.q.dtype()), a.q.dim(0), double(distinct.size()) * row_bytes + TotalBytes({a.q, a.rows, a.y}),
            4 * listed * double(a.q.dim(1) * a.q.dim(2)), UnitOf(a.q.dtype())};
  }
  static std::vector<std::string_view> Faults() {
    return {"ignored_minus_one", "dropped_sink",     "scaled_sink",          "reversed_sinks",
            "wrong_scale",       "reversed_heads",   "unrounded_p",          "truncated_p",
            "sum_of_rounded_p",  "sum_not_rescaled", "dropped_partial_block"};
  }

 private:
  static TensorView List(const Case& c, int64_t total, TestArena& m) {
    std::vector<int32_t> rows;
    for (int64_t t = 0; t < c.n; ++t) {
      for (int64_t j = 0; j < c.columns; ++j) {
        const uint64_t draw = m.rng()();
        const bool masked =
            (c.mask == Mask::kSome && draw % 4 == 0) || (c.mask == Mask::kFirstBlock && j < SparseAttention::kBlock) ||
            (c.mask == Mask::kEnds && (j == 0 || j + 1 == c.columns)) || (c.mask == Mask::kAll && t != 1);
        rows.push_back(masked ? -1 : int32_t(draw / 4 % uint64_t(total)));
      }
    }
    return m.Values<int32_t>({c.n, c.columns}, rows);
  }

  // The online softmax of one head. Every quantity comes with a bound of the error that f32 makes in it.
  struct Head {
    const double* q;
    int64_t d;
    double scale;
    DType dtype;
    double max = -std::numeric_limits<double>::infinity(), max_error = 0;
    double sum = 0, sum_error = 0;
    std::vector<double> acc, acc_error, acc_magnitude;
    int64_t terms = 0;

    Head(const double* query, int64_t width, double s, DType t)
        : q(query), d(width), scale(s), dtype(t), acc(size_t(d)), acc_error(acc), acc_magnitude(acc) {}

    void AddBlock(const int32_t* columns, int64_t count, const double* kv) {
      std::vector<const double*> rows;
      std::vector<double> logit, logit_error;
      for (int64_t j = 0; j < count; ++j) {
        if (columns[j] < 0) continue;
        const double* v = kv + columns[j] * d;
        double dot = 0, magnitude = 0;
        for (int64_t c = 0; c < d; ++c) {
          dot += q[c] * v[c];
          magnitude += std::abs(q[c] * v[c]);
        }
        rows.push_back(v);
        logit.push_back(dot * scale);
        logit_error.push_back(SumError(d, magnitude) * scale + std::abs(logit.back()) * Epsilon(DType::kF32));
      }
      if (rows.empty()) return;
      MoveMax(std::max(max, *std::max_element(logit.begin(), logit.end())),
              std::max(max_error, *std::max_element(logit_error.begin(), logit_error.end())));
      for (size_t i = 0; i < rows.size(); ++i) AddRow(rows[i], logit[i], logit_error[i]);
    }
    void MoveMax(double to, double error) {
      if (terms > 0) {
        const double keep = std::exp(max - to), keep_error = to == max ? 0 : ExpError(max - to, max_error + error);
        sum *= keep;
        sum_error = sum_error * keep + sum * keep_error;
        for (size_t c = 0; c < acc.size(); ++c) {
          acc[c] *= keep;
          acc_magnitude[c] *= keep;
          acc_error[c] = acc_error[c] * keep + acc_magnitude[c] * keep_error;
        }
      }
      max = to;
      max_error = error;
    }
    void AddRow(const double* v, double logit, double logit_error) {
      const double p = std::exp(logit - max), error = p * ExpError(logit - max, logit_error + max_error);
      // Where f32 may fall on the other side of a rounding boundary of bf16, P may be either neighbour; never above 1.
      const double weight = dtype == DType::kBF16 ? RoundTo(dtype, p) : p;
      const Interval p_range = {p - error, std::min(p + error, 1.0)};
      const Interval range = dtype == DType::kBF16 ? RoundTo(dtype, p_range) : p_range;
      const double weight_error = std::max(range.high - weight, weight - range.low);
      sum += p;
      sum_error += error;
      for (size_t c = 0; c < acc.size(); ++c) {
        acc[c] += weight * v[c];
        acc_magnitude[c] += std::abs(weight * v[c]);
        acc_error[c] += weight_error * std::abs(v[c]);
      }
      ++terms;
    }
    void Finish(double sink, Expected& y) const {
      if (terms == 0) {
        for (int64_t c = 0; c < d; ++c) {
          Append(y, {0, 0});
          y.coarse_tolerance.push_back(0);
        }
        return;
      }
      const double sink_term = std::exp(sink - max), z = sum + sink_term;
      const double z_error = sum_error + sink_term * ExpError(sink - max, max_error) + SumError(terms, z);
      const double quotient_error = z_error / z + Epsilon(DType::kF32);
      for (size_t c = 0; c < acc.size(); ++c) {
        const double error = (acc_error[c] + SumError(terms, acc_magnitude[c])) / z;
        const double value = acc[c] / z;
        Append(y, RoundTo(dtype, Around(value, error + std::abs(value) * quotient_error)));
        // A kernel that splits the list rounds P relative to the maximum of its split: each weight may be rounded to
        // another of its neighbours.
        y.coarse_tolerance.push_back(y.tolerance.back() +
                                     (dtype == DType::kBF16 ? 2 * Epsilon(dtype) : 0) * acc_magnitude[c] / z);
      }
    }
  };
};

}  // namespace vexil
