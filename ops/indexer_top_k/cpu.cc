#include <vector>

#include "ops/indexer_top_k/indexer_top_k.h"

namespace vexil::cpu {

Support IndexerTopKPlainSupports(const Context&, const IndexerTopK::Args&) { return {}; }

// Token by token, all scores of it.
Status IndexerTopKPlain(const Context& ctx, const IndexerTopK::Args& a) {
  Context inside = ctx;
  inside.choice = KernelChoice::kPlain;
  std::vector<float> memory(static_cast<size_t>(a.max_count));
  const MutTensorView scores(memory.data(), DType::kF32, {1, a.max_count});
  for (int64_t t = 0; t < a.q.dim(0); ++t) {
    VX_TRY(Run<IndexerScores>(inside, ScoresOf(a, t, t + 1, scores)));
    VX_TRY(Run<TopK>(inside, TopKOf(a, t, t + 1, scores)));
  }
  return {};
}

}  // namespace vexil::cpu
