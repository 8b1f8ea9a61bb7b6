// Argmax in vectors: a row's chunks are split over threads (ops/argmax/row-inl.h). Bytes moved: the logits once.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/argmax/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/argmax/argmax.h"
#include "ops/argmax/row-inl.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

Status ArgmaxVectors(const Context& ctx, const Argmax::Args& a) {
  ctx.For(a.logits.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      a.index.MutData<int32_t>()[i] = ArgmaxOfWideRow(ctx, a.logits.Row<float>(i), a.logits.dim(1));
    }
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support ArgmaxVectorsSupport(const Context&, const Argmax::Args&) { return {}; }

HWY_EXPORT(ArgmaxVectors);
VX_VECTOR_KERNELS(Argmax)

}  // namespace vexil::cpu
#endif
