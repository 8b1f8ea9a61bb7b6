// MoeGate in vectors. softplus(x) = max(x, 0) + log1p(exp(-|x|)), which is x beyond 20 by rounding alone. The best
// score is looked for k times, in integers that rank like scores; hash layers compute only the scores of their experts.
// No memory is asked for: in a process with many free blocks the allocator may take longer than all the rest.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/moe_gate/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>

#include "ops/moe_gate/moe_gate.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

inline constexpr int64_t kMaxExperts = 1024;
inline constexpr int32_t kTaken = std::numeric_limits<int32_t>::min();  // below the key of every score

// sqrt(softplus(x)); NaN stays.
HWY_INLINE Floats RootOfSoftplus(const Floats& x) { return Sqrt(AtLeast(Zero(), x) + Log1p(Exp(Zero() - Abs(x)))); }

// An integer per score that orders like it; NaN like -infinity, -0 like 0.
HWY_INLINE void StoreKeys(const Floats& score, int32_t* keys) {
  const Floats v = Select(IsNaN(score), Set(-std::numeric_limits<float>::infinity()), score + Zero());
  for (size_t i = 0; i < kParts; ++i) {
    const auto bits = hn::BitCast(DI(), v.part[i]);
    const auto lower = hn::And(hn::BroadcastSignBit(bits), hn::Set(DI(), 0x7fffffff));
    hn::StoreU(hn::Xor(bits, lower), DI(), keys + i * kPartLanes);
  }
}

// The first of the largest keys, which is then taken.
HWY_INLINE int32_t TakeBest(int32_t* keys, int64_t count) {
  auto largest = hn::Set(DI(), kTaken);
  for (int64_t e = 0; e < count; e += int64_t(kPartLanes)) largest = hn::Max(largest, hn::LoadU(DI(), keys + e));
  const auto best = hn::Set(DI(), hn::GetLane(hn::MaxOfLanes(DI(), largest)));
  for (int64_t e = 0; e < count; e += int64_t(kPartLanes)) {
    const intptr_t lane = hn::FindFirstTrue(DI(), hn::Eq(hn::LoadU(DI(), keys + e), best));
    if (lane < 0) continue;
    keys[e + lane] = kTaken;
    return int32_t(e + lane);
  }
  return 0;
}

// experts[0, k) by score, and their p.
void SelectExperts(const MoeGate::Args& a, int64_t t, int32_t* experts, float* weights) {
  alignas(64) float p[kMaxExperts];
  alignas(64) int32_t keys[kMaxExperts];
  const float *logits = a.logits.Row<float>(t), *bias = a.bias.empty() ? nullptr : a.bias.Data<float>();
  const int64_t count = a.logits.dim(1);
  for (int64_t e = 0; e < count; e += kLanes) {
    const Floats v = RootOfSoftplus(Load(logits + e));
    Store(v, p + e);
    StoreKeys(bias ? v + Load(bias + e) : v, keys + e);
  }
  for (int s = 0; s < a.k; ++s) {
    experts[s] = TakeBest(keys, count);
    weights[s] = p[experts[s]];
  }
}

// The experts of a hash layer, and their p.
void LookUpExperts(const MoeGate::Args& a, int64_t t, int32_t* experts, float* weights) {
  const int32_t id = a.ids.Data<int32_t>()[t];
  VX_DCHECK(id >= 0 && id < a.tid2eid.dim(0), "a token id outside the routing table");
  const int32_t* row = a.tid2eid.Row<int32_t>(id);
  const float* logits = a.logits.Row<float>(t);
  for (int64_t begin = 0; begin < a.k; begin += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, a.k - begin);
    alignas(64) float p[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) p[i] = logits[row[begin + i]];
    Store(RootOfSoftplus(Load(p)), p);
    for (int64_t i = 0; i < count; ++i) {
      experts[begin + i] = row[begin + i];
      weights[begin + i] = p[i];
    }
  }
}

Status MoeGateVectors(const Context& ctx, const MoeGate::Args& a) {
  constexpr int64_t kTokens = 8;  // a few microseconds of work
  ctx.For(a.logits.dim(0), kTokens, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* weights = a.weights.MutRow<float>(t);
      (a.tid2eid.empty() ? SelectExperts : LookUpExperts)(a, t, a.experts.MutRow<int32_t>(t), weights);
      float sum = 0;
      for (int s = 0; s < a.k; ++s) sum += weights[s];
      for (int s = 0; s < a.k; ++s) weights[s] = weights[s] / sum * a.route_scale;
    }
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support MoeGateVectorsSupport(const Context&, const MoeGate::Args& a) {
  VX_REQUIRE(a.logits.dim(1) % 16 == 0 && a.logits.dim(1) <= 1024, "experts must be a multiple of 16 up to 1024");
  return {};
}

HWY_EXPORT(MoeGateVectors);
VX_VECTOR_KERNELS(MoeGate)

}  // namespace vexil::cpu
#endif
