#include <algorithm>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/hc_post/hc_post.h"

namespace vexil::cpu {
namespace {

constexpr int64_t kColumns = 64;  // columns of all streams that are read before any of them is written

// Columns [begin, begin + count) of one token: r [m, kColumns] are those of the residual, already in f32.
template <class T>
void MixColumns(const HcPost::Args& a, int64_t t, int64_t begin, int64_t count, const float (*r)[kColumns]) {
  const int64_t m = a.residual.dim(1);
  const T* x = a.x.Row<T>(t) + begin;
  const float* post = a.post.Row<float>(t);
  const float* comb = a.comb.Row<float>(t);
  const bool transposed = VX_FAULT("comb_transposed"), inner_rounding = VX_FAULT("inner_rounding");
  for (int64_t k = 0; k < m; ++k) {
    float sum[kColumns] = {};
    for (int64_t j = VX_FAULT("first_stream_dropped") ? 1 : 0; j < m; ++j) {
      const float weight = transposed ? comb[k * m + j] : comb[j * m + k];
      for (int64_t c = 0; c < count; ++c) sum[c] += weight * r[j][c];
    }
    T* y = a.y.MutRow<T>(t) + k * a.y.stride(1) + begin;
    for (int64_t c = 0; c < count; ++c) {
      y[c] = FromFloat<T>(post[k] * ToFloat(x[c]) + (inner_rounding ? ToFloat(FromFloat<T>(sum[c])) : sum[c]));
    }
  }
}

template <class T>
void Tokens(const HcPost::Args& a, int64_t token_begin, int64_t token_end) {
  const int64_t m = a.residual.dim(1), d = a.residual.dim(2);
  float r[HcPost::kMaxStreams][kColumns];
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t begin = 0; begin < d; begin += kColumns) {
      const int64_t count = std::min(kColumns, d - begin);
      for (int64_t j = 0; j < m; ++j) {
        const T* stream = a.residual.Row<T>(t) + j * a.residual.stride(1) + begin;
        for (int64_t c = 0; c < count; ++c) r[j][c] = ToFloat(stream[c]);
      }
      MixColumns<T>(a, t, begin, count, r);
    }
  }
}

}  // namespace

Support HcPostPlainSupports(const Context&, const HcPost::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status HcPostPlain(const Context& ctx, const HcPost::Args& a) {
  WithFloatType(a.x.dtype(), [&](auto e) {
    ctx.For(a.x.dim(0), 4, [&](int64_t begin, int64_t end) { Tokens<decltype(e)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
