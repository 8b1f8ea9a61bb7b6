#include "model/v4/forward.h"

namespace vexil::v4 {

void ForwardStep::Observe(int64_t layer, std::string_view what, const TensorView& value) const {
  if (!observer || !*observer || ctx.dry_run) return;
  if (ctx.accelerator == nullptr) return (*observer)(layer, what, value);
  VX_CHECK(value.IsContiguous(), "only contiguous tensors are observed");
  std::vector<std::byte> bytes(size_t(value.Bytes()));
  // A copy that fails leaves zeros; the step itself reports the failure when it is waited for.
  const Status copied = ctx.accelerator->CopyOut(bytes.data(), value.raw(), bytes.size(), ctx.stream);
  const Status done = ctx.accelerator->Synchronize(ctx.stream);
  if (copied.ok() && done.ok()) (*observer)(layer, what, TensorView(bytes.data(), value.dtype(), value.dims()));
}

}  // namespace vexil::v4
