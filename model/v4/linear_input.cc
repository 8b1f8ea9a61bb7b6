#include "model/v4/forward.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/linear.h"
#include "ops/quantize_activation/quantize_activation.h"

namespace vexil::v4 {
namespace {

constexpr int64_t kActivationBlock = 128;

bool IsBlockScaled(const QuantView& w) {
  return w.data.dtype() == DType::kE4M3 || w.data.dtype() == DType::kE2M1x2;
}

}  // namespace

Result<QuantView> LinearInput::For(const QuantView& w) {
  if (!step_.numerics.quantize_linear_inputs || !IsBlockScaled(w)) return QuantView(x_);
  if (rounded_.data.empty()) {
    const int64_t n = x_.dim(0), k = x_.dim(1);
    const MutTensorView codes = step_.arena().NewTensor(DType::kE4M3, {n, k});
    const MutTensorView scale = step_.arena().NewTensor(DType::kE8M0, {n, (k + kActivationBlock - 1) / kActivationBlock});
    VX_TRY(Run<QuantizeActivation>(step_.ctx, {.x = x_, .codes = codes, .scale = scale, .block = kActivationBlock}));
    rounded_ = QuantView(codes, scale, 1, kActivationBlock);
  }
  return rounded_;
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
