#include <vector>

#include "ops/linear/linear.h"
#include "ops/linear/plain.h"

namespace vexil::cpu {

Support LinearPlainSupports(const Context& ctx, const Linear::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

// Columns [begin, end) of y: a weight row at a time, decoded once for all rows of x.
template <class Y>
static void Columns(const Linear::Args& a, const float* x, int64_t begin, int64_t end) {
  const int64_t n = a.x.data.dim(0), k = a.x.Columns();
  std::vector<float> w(static_cast<size_t>(k)), dots(static_cast<size_t>(n));
  for (int64_t j = begin; j < end; ++j) {
    DecodeRow(a.w, j, 0, k, a.y.dtype(), w.data());
    DotRows(x, n, k, w.data(), dots.data());
    for (int64_t i = 0; i < n; ++i) a.y.MutRow<Y>(i)[j] = Rounded<Y>(dots[size_t(i)]);
  }
}

template <class Y>
static void Int8Columns(const Linear::Args& a, int64_t begin, int64_t end) {
  const int64_t n = a.x.data.dim(0);
  std::vector<float> dots(static_cast<size_t>(n));
  for (int64_t j = begin; j < end; ++j) {
    Int8DotRows(a.x, 0, n, a.w.data.Row<int8_t>(j), Int8Scale(a.w, j), dots.data());
    for (int64_t i = 0; i < n; ++i) a.y.MutRow<Y>(i)[j] = Rounded<Y>(dots[size_t(i)]);
  }
}

Status LinearPlain(const Context& ctx, const Linear::Args& a) {
  if (a.x.data.dim(0) == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  if (a.x.data.dtype() == DType::kI8) {
    WithFloatType(a.y.dtype(), [&](auto y) {
      ctx.For(a.w.data.dim(0), 8, [&](int64_t begin, int64_t end) { Int8Columns<decltype(y)>(a, begin, end); });
    });
    return {};
  }
  const float* x = DecodeInput(ctx, a.x);
  WithFloatType(a.y.dtype(), [&](auto y) {
    ctx.For(a.w.data.dim(0), 8, [&](int64_t begin, int64_t end) { Columns<decltype(y)>(a, x, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
