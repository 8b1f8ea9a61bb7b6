#include "ops/argmax/argmax.h"
#include "ops/argmax/row.h"

namespace vexil::cpu {

Support ArgmaxPlainSupports(const Context&, const Argmax::Args&) { return {}; }

Status ArgmaxPlain(const Context& ctx, const Argmax::Args& a) {
  ctx.For(a.logits.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      a.index.MutData<int32_t>()[i] = ArgmaxOfRow(a.logits.Row<float>(i), a.logits.dim(1));
    }
  });
  return {};
}

}  // namespace vexil::cpu
