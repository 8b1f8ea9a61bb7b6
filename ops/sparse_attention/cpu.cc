#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "ops/dot.h"
#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/sparse_attention/rows.h"
#include "ops/sparse_attention/sparse_attention.h"

namespace vexil::cpu {

Support SparseAttentionPlainSupports(const Context&, const SparseAttention::Args& a) {
  VX_REQUIRE(IsFloat(a.q.dtype()), "q must be F32 or BF16");
  return {};
}

namespace {

constexpr int64_t kBlock = SparseAttention::kBlock;
// Heads per piece of work: they share the conversion of each block of rows to f32.
constexpr int64_t kHeads = 16;

template <class T>
void Convert(const T* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(x[i]);
}

// Copies the rows that the columns name to kv as f32, skipping -1. Returns their number.
template <class T>
int64_t Gather(const SparseAttention::Args& a, const int32_t* columns, int64_t count, float* kv) {
  const int64_t d = a.q.dim(2);
  int64_t gathered = 0;
  for (int64_t j = 0; j < count; ++j) {
    int64_t row = columns[j];
    if (VX_FAULT("ignored_minus_one") && row < 0) row = 0;
    if (row >= 0) Convert(RowAt<T>(a, row), d, kv + gathered++ * d);
  }
  return gathered;
}

// acc[c] += sum of p[j] * kv[j][c], j ascending. Four rows per pass over acc, in the same order of additions.
void AddWeighted(const float* p, const float* kv, int64_t rows, int64_t d, float* acc) {
  int64_t j = 0;
  for (; j + 4 <= rows; j += 4) {
    const float *v0 = kv + j * d, *v1 = v0 + d, *v2 = v1 + d, *v3 = v2 + d;
    const float p0 = p[j], p1 = p[j + 1], p2 = p[j + 2], p3 = p[j + 3];
    for (int64_t c = 0; c < d; ++c) acc[c] = acc[c] + p0 * v0[c] + p1 * v1[c] + p2 * v2[c] + p3 * v3[c];
  }
  for (; j < rows; ++j) {
    for (int64_t c = 0; c < d; ++c) acc[c] += p[j] * kv[j * d + c];
  }
}

// P as it multiplies v.
template <class T>
float RoundedWeight(float p) {
  if constexpr (std::is_same_v<T, BF16>) {
    if (VX_FAULT("unrounded_p")) return p;
    if (VX_FAULT("truncated_p")) return std::bit_cast<float>(std::bit_cast<uint32_t>(p) & 0xffff0000u);
  }
  return ToFloat(FromFloat<T>(p));
}

// The online softmax of one head.
struct Head {
  std::vector<float> q, acc;
  float max, sum;

  template <class T>
  void Start(const T* from, int64_t d) {
    q.resize(size_t(d));
    Convert(from, d, q.data());
    acc.assign(size_t(d), 0.0f);
    max = -std::numeric_limits<float>::infinity();
    sum = 0;
  }

  // Takes the rows of one block, at least one.
  template <class T>
  void AddBlock(const float* kv, int64_t rows, int64_t d, float scale) {
    float p[kBlock];
    const float max_before = max;
    for (int64_t j = 0; j < rows; ++j) {
      p[j] = Dot(q.data(), kv + j * d, d) * scale;
      max = std::max(max, p[j]);
    }
    float block_sum = 0;
    for (int64_t j = 0; j < rows; ++j) {
      const float exact = std::exp(p[j] - max);
      p[j] = RoundedWeight<T>(exact);
      block_sum += VX_FAULT("sum_of_rounded_p") ? p[j] : exact;
    }
    const float keep = std::exp(max_before - max);  // 0 for the first block
    sum = (VX_FAULT("sum_not_rescaled") ? sum : sum * keep) + block_sum;
    for (int64_t c = 0; c < d; ++c) acc[size_t(c)] *= keep;
    AddWeighted(p, kv, rows, d, acc.data());
  }

  template <class T>
  void Finish(float sink, T* y) const {
    const bool no_row = sum == 0;
    const float z = sum + (VX_FAULT("dropped_sink") ? 0.0f : std::exp(sink - max));
    for (size_t c = 0; c < acc.size(); ++c) y[c] = FromFloat<T>(no_row ? 0.0f : acc[c] / z);
  }
};

// Heads [begin, end) of token t. `heads` and `kv` are scratch.
template <class T>
void Attend(const SparseAttention::Args& a, int64_t t, int64_t begin, int64_t end, std::vector<Head>& heads,
            std::vector<float>& kv) {
  const int64_t d = a.q.dim(2), columns = a.rows.dim(1), num_heads = a.q.dim(1);
  const int64_t used = VX_FAULT("dropped_partial_block") ? columns / kBlock * kBlock : columns;
  const float scale = VX_FAULT("wrong_scale") ? a.scale * 1.01f : a.scale;
  for (int64_t h = begin; h < end; ++h) heads[size_t(h - begin)].Start(a.q.Row<T>(t) + h * a.q.stride(1), d);
  for (int64_t j = 0; j < used; j += kBlock) {
    const int64_t rows = Gather<T>(a, a.rows.Row<int32_t>(t) + j, std::min(kBlock, used - j), kv.data());
    if (rows == 0) continue;
    for (int64_t h = begin; h < end; ++h) heads[size_t(h - begin)].AddBlock<T>(kv.data(), rows, d, scale);
  }
  for (int64_t h = begin; h < end; ++h) {
    const float sink = a.sink.Data<float>()[VX_FAULT("reversed_sinks") ? num_heads - 1 - h : h];
    const int64_t out = VX_FAULT("reversed_heads") ? num_heads - 1 - h : h;
    heads[size_t(h - begin)].Finish(VX_FAULT("scaled_sink") ? sink * a.scale : sink,
                                    a.y.MutRow<T>(t) + out * a.y.stride(1));
  }
}

}  // namespace

Status SparseAttentionPlain(const Context& ctx, const SparseAttention::Args& a) {
  const int64_t num_heads = a.q.dim(1), groups = (num_heads + kHeads - 1) / kHeads;
  WithFloatType(a.q.dtype(), [&](auto element) {
    ctx.For(a.q.dim(0) * groups, 1, [&](int64_t begin, int64_t end) {
      std::vector<Head> heads(static_cast<size_t>(kHeads));
      std::vector<float> kv(size_t(kBlock * a.q.dim(2)));
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = item % groups * kHeads;
        Attend<decltype(element)>(a, item / groups, first, std::min(first + kHeads, num_heads), heads, kv);
      }
    });
  });
  return {};
}

}  // namespace vexil::cpu
