// HcPre in vectors: the rows of fn, which are most of the bytes, are read once per 32 tokens and split over threads
// even for one token. Rounding and order of every sum are those of the plain kernel: the same bits.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/hc_pre/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/hc_pre/hc_math.h"
#include "ops/hc_pre/hc_pre.h"
#include "ops/hc_pre/mixes-inl.h"
#include "ops/hc_pre/split_mixes.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET != HWY_SCALAR
using Row4 = hn::Vec<hn::FixedTag<float, 4>>;

// Divides the four rows by their sum, column by column.
HWY_INLINE void NormalizeColumns(Row4 (&r)[4], Row4 eps) {
  const Row4 sum = hn::Add(hn::Add(hn::Add(hn::Add(r[0], r[1]), r[2]), r[3]), eps);
  for (Row4& row : r) row = hn::Div(row, sum);
}

HWY_INLINE void Transpose(Row4 (&r)[4]) {
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<double, 2> pairs;
  const auto low = [](Row4 a, Row4 b)
                       HWY_ATTR { return hn::BitCast(decltype(pairs)(), hn::InterleaveLower(decltype(d)(), a, b)); };
  const auto high = [](Row4 a, Row4 b)
                        HWY_ATTR { return hn::BitCast(decltype(pairs)(), hn::InterleaveUpper(decltype(d)(), a, b)); };
  const auto a = low(r[0], r[1]), b = low(r[2], r[3]), e = high(r[0], r[1]), f = high(r[2], r[3]);
  r[0] = hn::BitCast(d, hn::InterleaveLower(pairs, a, b));
  r[1] = hn::BitCast(d, hn::InterleaveUpper(pairs, a, b));
  r[2] = hn::BitCast(d, hn::InterleaveLower(pairs, e, f));
  r[3] = hn::BitCast(d, hn::InterleaveUpper(pairs, e, f));
}

// Sinkhorn of four streams: the same sums and quotients, four at a time.
void SinkhornOfFour(float* c, float hc_eps, int iters) {
  const hn::FixedTag<float, 4> d;
  const Row4 eps = hn::Set(d, hc_eps);
  Row4 r[4];
  for (int j = 0; j < 4; ++j) r[j] = hn::LoadU(d, c + 4 * j);
  NormalizeColumns(r, eps);
  for (int i = 1; i < iters; ++i) {
    Transpose(r);
    NormalizeColumns(r, eps);
    Transpose(r);
    NormalizeColumns(r, eps);
  }
  for (int j = 0; j < 4; ++j) hn::StoreU(r[j], d, c + 4 * j);
}
#endif

void Balance(const HcPre::Args& a, float* comb) {
#if HWY_TARGET != HWY_SCALAR
  if (a.h.dim(1) == 4) return SinkhornOfFour(comb, a.hc_eps, a.sinkhorn_iters);
#endif
  Sinkhorn(comb, a.h.dim(1), a.hc_eps, a.sinkhorn_iters);
}

template <class T>
void HcPreTokens(const HcPre::Args& a, int64_t begin, int64_t end, float* mixes) {
  const int64_t m = a.h.dim(1), count = a.fn.dim(0);
  for (int64_t t = begin; t < end; ++t) {
    const float r = InverseRmsOfStreams<T>(a.h, t, a.norm_eps);
    float* mix = mixes + t * count;
    for (int64_t j = 0; j < count; ++j) mix[j] *= r;
    float pre[HcPre::kMaxStreams];
    float* comb = a.comb.MutRow<float>(t);
    SplitMixes(a, mix, m, pre, a.post.MutRow<float>(t), comb);
    Balance(a, comb);
    MixStreamsInto(a.h, t, pre, a.x.MutRow<T>(t));
  }
}

Status HcPreVectors(const Context& ctx, const HcPre::Args& a) {
  return WithMixes(ctx, a.h, a.fn, [&](auto element, int64_t begin, int64_t end, float* mixes) {
    HcPreTokens<decltype(element)>(a, begin, end, mixes);
  });
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support HcPreVectorsSupport(const Context& ctx, const HcPre::Args& a) { return VectorsTakeStreams(ctx, a.h); }

HWY_EXPORT(HcPreVectors);
VX_VECTOR_KERNELS(HcPre)

}  // namespace vexil::cpu
#endif
