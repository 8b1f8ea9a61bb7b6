#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/elements.h"
#include "ops/fault.h"
#include "ops/swiglu/swiglu.h"

namespace vexil::cpu {
namespace {

float Silu(float v) { return v / (1.0f + std::exp(-v)); }

float RowWeight(const Swiglu::Args& a, int64_t r) {
  if (a.row_weight.empty()) return 1.0f;
  const int64_t i = a.row_index.empty() || VX_FAULT("index_ignored") ? r : a.row_index.Data<int32_t>()[r];
  VX_DCHECK(i >= 0 && i < a.row_weight.dims().Count(), "row_index outside row_weight");
  return a.row_weight.Data<float>()[i];
}

template <class T>
void Rows(const Swiglu::Args& a, int64_t begin, int64_t end) {
  const float limit = a.limit > 0 ? a.limit : std::numeric_limits<float>::infinity();
  const float max_gate = VX_FAULT("gate_not_clamped") ? std::numeric_limits<float>::infinity() : limit;
  const float min_gate = VX_FAULT("gate_clamped_below") ? -limit : -std::numeric_limits<float>::infinity();
  const float min_up = VX_FAULT("up_not_clamped_below") ? -std::numeric_limits<float>::infinity() : -limit;
  const bool weight_after_rounding = VX_FAULT("weight_after_rounding");
  for (int64_t r = begin; r < end; ++r) {
    const T *gates = a.a.Row<T>(r), *ups = a.b.Row<T>(r);
    T* y = a.y.MutRow<T>(r);
    const float weight = RowWeight(a, r);
    for (int64_t i = 0; i < a.a.dim(1); ++i) {
      const float gate = std::clamp(ToFloat(gates[i]), min_gate, max_gate);
      const float v = Silu(gate) * std::clamp(ToFloat(ups[i]), min_up, limit);
      y[i] = FromFloat<T>((weight_after_rounding ? ToFloat(FromFloat<T>(v)) : v) * weight);
    }
  }
}

}  // namespace

Support SwigluPlainSupports(const Context&, const Swiglu::Args& a) {
  VX_REQUIRE(IsFloat(a.a.dtype()), "a must be F32 or BF16");
  return {};
}

Status SwigluPlain(const Context& ctx, const Swiglu::Args& a) {
  WithFloatType(a.a.dtype(), [&](auto e) {
    ctx.For(a.a.dim(0), 1, [&](int64_t begin, int64_t end) { Rows<decltype(e)>(a, begin, end); });
  });
  return {};
}

}  // namespace vexil::cpu
