#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/fault.h"
#include "ops/hc_pre/hc_math.h"
#include "ops/hc_pre/hc_pre.h"
#include "ops/hc_pre/split_mixes.h"

namespace vexil::cpu {
namespace {

// Tokens that share a pass over fn, which is far larger than the streams of a token.
constexpr int64_t kTile = 4;

template <class T>
void Tile(const HcPre::Args& a, int64_t begin, int64_t count, float* u) {
  const int64_t m = a.h.dim(1), d = a.h.dim(2);
  float r[kTile], mix[kTile][kMaxMixes];
  for (int64_t t = 0; t < count; ++t) {
    FlattenStreams<T>(a.h, begin + t, u + t * m * d);
    r[t] = InverseRms(u + t * m * d, m * d, a.norm_eps);
  }
  for (int64_t j = 0; j < a.fn.dim(0); ++j) {
    for (int64_t t = 0; t < count; ++t) mix[t][j] = LaneDot(a.fn.Row<float>(j), u + t * m * d, m * d) * r[t];
  }
  for (int64_t t = 0; t < count; ++t) {
    float pre[HcPre::kMaxStreams];
    float* comb = a.comb.MutRow<float>(begin + t);
    SplitMixes(a, mix[t], m, pre, a.post.MutRow<float>(begin + t), comb);
    Sinkhorn(comb, m, a.hc_eps, a.sinkhorn_iters);
    MixStreams(u + t * m * d, pre, m, d, a.x.MutRow<T>(begin + t));
  }
}

}  // namespace

Support HcPrePlainSupports(const Context&, const HcPre::Args& a) {
  VX_REQUIRE(IsFloat(a.h.dtype()), "h must be F32 or BF16");
  return {};
}

Status HcPrePlain(const Context& ctx, const HcPre::Args& a) {
  WithFloatType(a.h.dtype(), [&](auto e) {
    ctx.For(a.h.dim(0), kTile, [&](int64_t begin, int64_t end) {
      std::vector<float> u(size_t(std::min(kTile, end - begin) * a.h.dim(1) * a.h.dim(2)));
      for (int64_t t = begin; t < end; t += kTile) Tile<decltype(e)>(a, t, std::min(kTile, end - t), u.data());
    });
  });
  return {};
}

}  // namespace vexil::cpu
