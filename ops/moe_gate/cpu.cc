#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/fault.h"
#include "ops/moe_gate/moe_gate.h"
#include "ops/top_k/rank_key.h"

namespace vexil::cpu {

Support MoeGatePlainSupports(const Context&, const MoeGate::Args&) { return {}; }

static float Softplus(float x) {
  constexpr float kLinearAbove = 20;
  return x > kLinearAbove ? x : std::log1p(std::exp(x));
}

// The k best of p + bias into experts[0, k).
static void Select(const MoeGate::Args& a, const std::vector<float>& p, int32_t* experts) {
  const float* bias = a.bias.empty() || VX_FAULT("ignored_bias") ? nullptr : a.bias.Data<float>();
  std::vector<uint64_t> keys(p.size());
  for (size_t e = 0; e < p.size(); ++e) {
    const uint32_t index = VX_FAULT("ties_to_higher") ? uint32_t(p.size() - 1 - e) : uint32_t(e);
    keys[e] = RankKey(bias ? p[index] + bias[index] : p[index], uint32_t(e));
  }
  std::partial_sort(keys.begin(), keys.begin() + a.k, keys.end());
  for (int s = 0; s < a.k; ++s) {
    const int32_t e = RankedIndex(keys[size_t(s)]);
    experts[s] = VX_FAULT("ties_to_higher") ? int32_t(p.size()) - 1 - e : e;
  }
}

static void Token(const MoeGate::Args& a, int64_t t, std::vector<float>& p) {
  const float* logits = a.logits.Row<float>(t);
  for (size_t e = 0; e < p.size(); ++e) p[e] = std::sqrt(Softplus(logits[e]));
  int32_t* experts = a.experts.MutRow<int32_t>(t);
  if (a.tid2eid.empty()) {
    Select(a, p, experts);
  } else {
    const int32_t id = a.ids.Data<int32_t>()[t];
    VX_DCHECK(id >= 0 && id < a.tid2eid.dim(0), "a token id outside the routing table");
    std::copy_n(a.tid2eid.Row<int32_t>(id), a.k, experts);
  }
  const float* bias = a.bias.empty() || !VX_FAULT("bias_in_weights") ? nullptr : a.bias.Data<float>();
  float* weights = a.weights.MutRow<float>(t);
  float sum = 0;
  for (int s = 0; s < a.k; ++s) {
    weights[s] = p[size_t(experts[s])] + (bias ? bias[experts[s]] : 0.0f);
    sum += weights[s];
  }
  const float scale = VX_FAULT("no_route_scale") ? 1.0f : a.route_scale;
  for (int s = 0; s < a.k; ++s) weights[s] = weights[s] / sum * scale;
}

Status MoeGatePlain(const Context& ctx, const MoeGate::Args& a) {
  ctx.For(a.logits.dim(0), 4, [&](int64_t begin, int64_t end) {
    std::vector<float> p(static_cast<size_t>(a.logits.dim(1)));
    for (int64_t t = begin; t < end; ++t) Token(a, t, p);
  });
  return {};
}

}  // namespace vexil::cpu
