#include <vector>

#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/plain.h"

namespace vexil::cpu {

Support GroupedLinearPlainSupports(const Context& ctx, const GroupedLinear::Args&) {
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  return {};
}

// Columns [begin, end) of the pairs of every expert. `x` is null when x is I8.
template <class Y>
static void Columns(const GroupedLinear::Args& a, const float* x, int64_t begin, int64_t end) {
  const int64_t k = a.x.Columns();
  const int32_t* offsets = a.offsets.Data<int32_t>();
  const int32_t* rows = a.rows.empty() || VX_FAULT("ignored_rows") ? nullptr : a.rows.Data<int32_t>();
  std::vector<float> w(static_cast<size_t>(k));
  for (size_t e = 0; e < a.w.size(); ++e) {
    if (offsets[e] == offsets[e + 1]) continue;
    const QuantView& weight = a.w[VX_FAULT("first_expert") ? 0 : e];
    for (int64_t j = begin; j < end; ++j) {
      if (x) DecodeRow(weight, j, 0, k, a.y.dtype(), w.data());
      for (int64_t p = offsets[e]; p < offsets[e + 1]; ++p) {
        const int64_t row = rows ? rows[p] : p % a.x.data.dim(0);
        VX_DCHECK(row >= 0 && row < a.x.data.dim(0), "a pair names a row that x does not have");
        float dot;
        if (x) {
          DotRows(x + row * k, 1, k, w.data(), &dot);
        } else {
          Int8DotRows(a.x, row, 1, weight.data.Row<int8_t>(j), Int8Scale(weight, j), &dot);
        }
        a.y.MutRow<Y>(p)[j] = Rounded<Y>(dot);
      }
    }
  }
}

Status GroupedLinearPlain(const Context& ctx, const GroupedLinear::Args& a) {
  if (a.y.dim(0) == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  const float* x = a.x.data.dtype() == DType::kI8 ? nullptr : DecodeInput(ctx, a.x);
  WithFloatType(a.y.dtype(), [&](auto y) {
    ctx.For(a.y.dim(1), 8, [&](int64_t begin, int64_t end) { Columns<decltype(y)>(a, x, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
