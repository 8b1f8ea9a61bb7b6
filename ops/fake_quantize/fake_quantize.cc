#include "ops/fake_quantize/fake_quantize.h"

#include "ops/elements.h"
#include "ops/kernel_lists.h"

namespace vexil {
#define VX_KERNEL VX_DECLARE_KERNEL
#include "ops/fake_quantize/kernels.inc"
#undef VX_KERNEL

template <>
std::span<const Kernel<FakeQuantize>> Kernels<FakeQuantize>() {
  static constexpr Kernel<FakeQuantize> kTable[] = {
#define VX_KERNEL VX_KERNEL_ENTRY
#include "ops/fake_quantize/kernels.inc"
#undef VX_KERNEL
  };
  return kTable;
}

Status FakeQuantize::Check(const Args& a) {
  VX_CHECK_ARG(FakeQuantize, a.block >= 1, "block must be at least 1");
  VX_CHECK_ARG(FakeQuantize, a.x.rank() == 2, "x must be [rows, cols]");
  VX_CHECK_ARG(FakeQuantize, IsFloat(a.x.dtype()), "x must be F32 or BF16");
  return {};
}
}  // namespace vexil
