// The two ops one after the other, for as many tokens at a time as a matrix of 16 MB holds: their scores stay in the
// second-level cache, and the scratch does not grow with the context times the tokens.
#include <algorithm>

#include "ops/indexer_top_k/indexer_top_k.h"

namespace vexil::gpu {

constexpr int64_t kMaxScores = int64_t(1) << 22;

Support IndexerTopKTwoOpsSupports(const Context&, const IndexerTopK::Args&) { return {}; }

Status IndexerTopKTwoOps(const Context& ctx, const IndexerTopK::Args& a) {
  const Arena::Scope scope(*ctx.workspace);
  const int64_t n = a.q.dim(0), columns = std::max<int64_t>(1, a.max_count);
  const int64_t tokens = std::max<int64_t>(1, std::min(n, kMaxScores / columns));
  const MutTensorView scores = ctx.workspace->NewTensor(DType::kF32, {tokens, a.max_count});
  for (int64_t begin = 0; begin < n; begin += tokens) {
    const int64_t end = std::min(begin + tokens, n);
    const MutTensorView part = scores.Rows(0, end - begin);
    VX_TRY(Run<IndexerScores>(ctx, ScoresOf(a, begin, end, part)));
    VX_TRY(Run<TopK>(ctx, TopKOf(a, begin, end, part)));
  }
  return {};
}

}  // namespace vexil::gpu
