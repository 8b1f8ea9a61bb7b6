#include <algorithm>
#include <vector>

#include "ops/fault.h"
#include "ops/top_k/rank_key.h"
#include "ops/top_k/top_k.h"

namespace vexil::cpu {

Support TopKPlainSupports(const Context&, const TopK::Args&) { return {}; }

static void Row(const TopK::Args& a, int64_t i, std::vector<uint64_t>& keys) {
  const float* scores = a.scores.Row<float>(i);
  const int64_t count = VX_FAULT("ignored_count") ? a.scores.dim(1) : a.count.Data<int32_t>()[i];
  VX_DCHECK(count >= 0 && count <= a.scores.dim(1), "count exceeds the row");
  const bool reversed = VX_FAULT("ties_to_higher");
  keys.resize(size_t(count));
  for (int64_t j = 0; j < count; ++j) {
    keys[size_t(j)] = reversed ? RankKey(scores[count - 1 - j], uint32_t(j)) : RankKey(scores[j], uint32_t(j));
  }
  const int64_t k = a.indices.dim(1), kept = std::min(k, count);
  if (kept < count) std::nth_element(keys.begin(), keys.begin() + kept, keys.end());
  if (!VX_FAULT("unsorted")) std::sort(keys.begin(), keys.begin() + kept);
  int32_t* indices = a.indices.MutRow<int32_t>(i);
  for (int64_t j = 0; j < kept; ++j) {
    const int32_t index = RankedIndex(keys[size_t(j)]);
    indices[j] = reversed ? int32_t(count) - 1 - index : index;
  }
  std::fill(indices + kept, indices + k, -1);
}

Status TopKPlain(const Context& ctx, const TopK::Args& a) {
  ctx.For(a.scores.dim(0), 1, [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> keys;
    for (int64_t i = begin; i < end; ++i) Row(a, i, keys);
  });
  return {};
}

}  // namespace vexil::cpu
