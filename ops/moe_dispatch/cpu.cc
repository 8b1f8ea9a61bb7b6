#include <algorithm>
#include <vector>

#include "ops/fault.h"
#include "ops/moe_dispatch/moe_dispatch.h"

namespace vexil::cpu {

Support MoeDispatchPlainSupports(const Context&, const MoeDispatch::Args&) { return {}; }

// Counting sort. Serial: a step has a few thousand pairs at most.
Status MoeDispatchPlain(const Context&, const MoeDispatch::Args& a) {
  const int64_t pairs = a.experts.dims().Count(), k = a.experts.dim(1);
  const int32_t* experts = a.experts.Data<int32_t>();
  int32_t* offsets = a.offsets.MutData<int32_t>();
  std::fill_n(offsets, a.num_experts + 1, 0);
  for (int64_t i = 0; i < pairs; ++i) {
    VX_DCHECK(experts[i] >= 0 && experts[i] < a.num_experts, "an expert that does not exist");
    ++offsets[experts[i] + 1];
  }
  for (int64_t e = 0; e < a.num_experts; ++e) offsets[e + 1] += offsets[e];

  std::vector<int32_t> next(offsets, offsets + a.num_experts);
  for (int64_t step = 0; step < pairs; ++step) {
    const int64_t i = VX_FAULT("unstable") ? pairs - 1 - step : step;
    const int32_t pair = next[size_t(experts[i])]++;
    a.pair_token.MutData<int32_t>()[pair] = int32_t(i / k);
    a.pair_slot.MutData<int32_t>()[pair] = int32_t(VX_FAULT("slot_without_token") ? i % k : i);
    a.pair_of.MutData<int32_t>()[i] = VX_FAULT("inverse_permutation") ? int32_t(i) : pair;
  }
  return {};
}

}  // namespace vexil::cpu
