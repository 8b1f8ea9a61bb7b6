#include "model/v4/forward.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/linear.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/quantize_int8/quantize_int8.h"

namespace vexil::v4 {
namespace {

// Formats whose linears were trained with E4M3 inputs.
bool TakesE4M3(const QuantView& w) {
  const DType t = w.data.dtype();
  return t == DType::kE4M3 || t == DType::kE2M1x2 || t == DType::kMXFP4;
}

}  // namespace

bool LinearInput::RoundsToE4M3(const ForwardStep& step, const QuantView& w) {
  return step.numerics.quantize_linear_inputs && TakesE4M3(w);
}

Result<QuantView> LinearInput::For(const QuantView& w) {
  if (!step_.numerics.quantize_linear_inputs) return QuantView(x_);
  if (w.data.dtype() == DType::kI8) return AsInt8();
  return TakesE4M3(w) ? AsE4M3() : QuantView(x_);
}

Result<QuantView> LinearInput::AsE4M3() {
  if (e4m3_.data.empty()) {
    const int64_t n = x_.dim(0), k = x_.dim(1);
    const MutTensorView codes = step_.arena().NewTensor(DType::kE4M3, {n, k});
    const MutTensorView scale = step_.arena().NewTensor(DType::kE8M0, {n, (k + kE4M3Block - 1) / kE4M3Block});
    VX_TRY(Run<QuantizeActivation>(step_.ctx, {.x = x_, .codes = codes, .scale = scale, .block = kE4M3Block}));
    e4m3_ = QuantView(codes, scale, 1, kE4M3Block);
  }
  return e4m3_;
}

Result<QuantView> LinearInput::AsInt8() {
  if (int8_.data.empty()) {
    const int64_t n = x_.dim(0), k = x_.dim(1);
    const MutTensorView codes = step_.arena().NewTensor(DType::kI8, {n, k});
    const MutTensorView scale = step_.NewF32({n});
    VX_TRY(Run<QuantizeInt8>(step_.ctx, {.x = x_, .codes = codes, .scale = scale}));
    int8_ = QuantView(codes, scale, 1, k);
  }
  return int8_;
}

Status LinearInput::Times(const QuantView& w, MutTensorView y) {
  VX_ASSIGN(const QuantView x, For(w));
  return Run<Linear>(step_.ctx, {.x = x, .w = w, .y = y});
}

Status LinearInput::TimesExperts(TensorView rows, TensorView offsets, std::span<const QuantView> w, MutTensorView y) {
  VX_ASSIGN(const QuantView x, For(w[0]));
  return Run<GroupedLinear>(step_.ctx, {.x = x, .rows = rows, .offsets = offsets, .w = w, .y = y});
}

}  // namespace vexil::v4
