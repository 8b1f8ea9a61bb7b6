// Mixture of experts: router, routed experts over (token, expert) pairs, shared expert (spec: model, 9).
#include <optional>

#include "model/v4/forward.h"
#include "ops/moe_combine/moe_combine.h"
#include "ops/moe_dispatch/moe_dispatch.h"
#include "ops/moe_gate/moe_gate.h"
#include "ops/swiglu/swiglu.h"

namespace vexil::v4 {
namespace {

struct Routing {
  MutTensorView experts, weights;                         // [n, k]
  MutTensorView offsets, pair_token, pair_slot, pair_of;  // ops/moe_dispatch
};

Result<Routing> Route(const ForwardStep& s, int64_t layer, const MoeWeights& w, LinearInput& x) {
  const int64_t n = s.n(), k = s.config.experts_per_token, e = s.config.num_experts;
  const Routing r = {s.NewI32({n, k}),  s.NewF32({n, k}),  s.NewI32({e + 1}),
                     s.NewI32({n * k}), s.NewI32({n * k}), s.NewI32({n, k})};
  const MutTensorView logits = s.NewF32({n, e});
  VX_TRY(x.Times(w.gate, logits));
  VX_TRY(Run<MoeGate>(s.ctx, {.logits = logits,
                              .bias = w.bias,
                              .tid2eid = w.tid2eid,
                              .ids = w.tid2eid.empty() ? TensorView() : s.batch.tokens,
                              .k = int(k),
                              .route_scale = float(s.config.route_scale),
                              .experts = r.experts,
                              .weights = r.weights}));
  s.Observe(layer, "expert_ids", r.experts);
  s.Observe(layer, "expert_weights", r.weights);
  VX_TRY(Run<MoeDispatch>(s.ctx, {.experts = r.experts,
                                  .num_experts = e,
                                  .offsets = r.offsets,
                                  .pair_token = r.pair_token,
                                  .pair_slot = r.pair_slot,
                                  .pair_of = r.pair_of}));
  return r;
}

// 9.2 for all pairs: the routing weight goes in before the down projection.
Result<MutTensorView> RoutedExperts(const ForwardStep& s, const ExpertLists& w, const Routing& r, LinearInput& x) {
  const int64_t pairs = s.n() * s.config.experts_per_token, f = s.config.expert_dim;
  const MutTensorView y = s.Activations({pairs, s.config.dim});
  const MutTensorView gate = s.Activations({pairs, f}), up = s.Activations({pairs, f});
  VX_TRY(x.TimesExperts(r.pair_token, r.offsets, w.w1, gate));
  VX_TRY(x.TimesExperts(r.pair_token, r.offsets, w.w3, up));
  VX_TRY(Run<Swiglu>(s.ctx, {.a = gate,
                             .b = up,
                             .row_weight = r.weights,
                             .row_index = r.pair_slot,
                             .limit = float(s.config.swiglu_limit),
                             .y = gate}));
  VX_TRY(LinearInput(s, gate).TimesExperts({}, r.offsets, w.w2, y));
  return y;
}

Result<MutTensorView> SharedExpert(const ForwardStep& s, const MoeWeights& w, LinearInput& x) {
  const MutTensorView y = s.Activations({s.n(), s.config.dim});
  const MutTensorView gate = s.Activations({s.n(), s.config.expert_dim}), up = s.Activations(gate.dims());
  VX_TRY(x.Times(w.shared_w1, gate));
  VX_TRY(x.Times(w.shared_w3, up));
  const float limit = s.clamp_shared_expert ? float(s.config.swiglu_limit) : 0.0f;
  VX_TRY(Run<Swiglu>(s.ctx, {.a = gate, .b = up, .limit = limit, .y = gate}));
  VX_TRY(LinearInput(s, gate).Times(w.shared_w2, y));
  return y;
}

}  // namespace

Status Moe(const ForwardStep& s, int64_t layer, const MoeWeights& w, LinearInput& x, MutTensorView out) {
  Arena::Scope scope(s.arena());
  VX_ASSIGN(const Routing routing, Route(s, layer, w, x));
  // Experts in host memory are asked for first and used last: the shared expert runs meanwhile.
  std::optional<ExpertCache::Use> host_experts;
  if (s.expert_cache && s.expert_cache->HasHostExperts(layer)) {
    VX_ASSIGN(host_experts, s.expert_cache->Begin(s.ctx, layer, routing.offsets));
  }
  VX_ASSIGN(const MutTensorView shared, SharedExpert(s, w, x));
  ExpertLists experts{w.w1, w.w3, w.w2};
  if (host_experts) {
    VX_ASSIGN(experts, host_experts->Bring());
  }
  VX_ASSIGN(const MutTensorView routed, RoutedExperts(s, experts, routing, x));
  return Run<MoeCombine>(
      s.ctx, {.y = routed, .experts = routing.experts, .pair_of = routing.pair_of, .shared = shared, .out = out});
}

}  // namespace vexil::v4
