#include <algorithm>

#include "model/v4/forward.h"
#include "ops/linear/linear.h"
#include "ops/multi_linear/multi_linear.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/quantize_int8/quantize_int8.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rms_norm_quantize/rms_norm_quantize.h"

namespace vexil::v4 {
namespace {

// Formats whose linears were trained with E4M3 inputs.
bool TakesE4M3(const QuantView& w) {
  const DType t = w.data.dtype();
  return t == DType::kE4M3 || t == DType::kE2M1x2 || t == DType::kMXFP4;
}

// Where E4M3 rows [n, k] go.
QuantView NewE4M3(const ForwardStep& s, int64_t n, int64_t k, MutTensorView& codes, MutTensorView& scale) {
  codes = s.arena().NewTensor(DType::kE4M3, {n, k});
  scale = s.arena().NewTensor(DType::kE8M0, {n, (k + LinearInput::kE4M3Block - 1) / LinearInput::kE4M3Block});
  return QuantView(codes, scale, 1, LinearInput::kE4M3Block);
}

}  // namespace

bool LinearInput::RoundsToE4M3(const ForwardStep& step, const QuantView& w) {
  return step.numerics.quantize_linear_inputs && TakesE4M3(w);
}

Result<LinearInput> LinearInput::Normed(const ForwardStep& step, MutTensorView x, TensorView norm,
                                        std::initializer_list<const QuantView*> weights) {
  const float eps = float(step.config.norm_eps);
  const bool rounded = step.numerics.quantize_linear_inputs &&
                       std::all_of(weights.begin(), weights.end(), [](const QuantView* w) { return TakesE4M3(*w); });
  if (!rounded) {
    VX_TRY(Run<RmsNorm>(step.ctx, {.x = x, .weight = norm, .y = x, .eps = eps}));
    return LinearInput(step, x);
  }
  LinearInput input(step, TensorView());
  MutTensorView codes, scale;
  input.e4m3_ = NewE4M3(step, x.dim(0), x.dim(1), codes, scale);
  VX_TRY(Run<RmsNormQuantize>(
      step.ctx,
      {.x = x, .weight = norm, .codes = codes, .scale = scale, .eps = eps, .block = LinearInput::kE4M3Block}));
  return input;
}

Result<QuantView> LinearInput::For(const QuantView& w) {
  if (RoundsToE4M3(step_, w)) return AsE4M3();
  return step_.numerics.quantize_linear_inputs && w.data.dtype() == DType::kI8 ? AsInt8() : QuantView(x_);
}

Result<QuantView> LinearInput::AsE4M3() {
  if (e4m3_.data.empty()) {
    MutTensorView codes, scale;
    e4m3_ = NewE4M3(step_, x_.dim(0), x_.dim(1), codes, scale);
    VX_TRY(Run<QuantizeActivation>(step_.ctx,
                                   {.x = x_, .codes = codes, .scale = scale, .block = LinearInput::kE4M3Block}));
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

Status LinearInput::TimesAlone(const QuantView& w, MutTensorView y) {
  if (!step_.numerics.quantize_linear_inputs || !TakesE4M3(w)) return Times(w, y);
  MultiLinear::Args args;
  args.parts[0] = {.x = x_, .w = w, .y = y, .round_x = true};
  args.count = 1;
  return Run<MultiLinear>(step_.ctx, args);
}

Status LinearInput::TimesAll(std::span<const Product> products) {
  MultiLinear::Args args;
  VX_CHECK(products.size() <= args.parts.size(), "more products than a call takes");
  for (const Product& p : products) {
    VX_ASSIGN(const QuantView x, For(p.w));
    args.parts[size_t(args.count++)] = {.x = x, .w = p.w, .y = p.y, .factor = p.factor};
  }
  return Run<MultiLinear>(step_.ctx, args);
}

}  // namespace vexil::v4
