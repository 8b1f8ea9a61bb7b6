// Mixture of experts: router, routed experts over (token, expert) pairs, shared expert (spec: model, 9).
#include "model/v4/forward.h"
#include "ops/expert_down/expert_down.h"
#include "ops/expert_gate/expert_gate.h"
#include "ops/moe_combine/moe_combine.h"
#include "ops/moe_route/moe_route.h"

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
  VX_TRY(Run<MoeRoute>(s.ctx, {.gate = {.logits = logits,
                                        .bias = w.bias,
                                        .tid2eid = w.tid2eid,
                                        .ids = w.tid2eid.empty() ? TensorView() : s.batch.tokens,
                                        .k = int(k),
                                        .route_scale = float(s.config.route_scale),
                                        .experts = r.experts,
                                        .weights = r.weights},
                               .offsets = r.offsets,
                               .pair_token = r.pair_token,
                               .pair_slot = r.pair_slot,
                               .pair_of = r.pair_of}));
  s.Observe(layer, "expert_ids", r.experts);
  s.Observe(layer, "expert_weights", r.weights);
  return r;
}

// 9.2 for the routed experts, the shared one, or both: the routing weight goes in before the last product.
class Experts {
 public:
  Experts(const ForwardStep& s, LinearInput& x) : s_(s), x_(x) {}

  Status AddRouted(const ExpertLists& w, const Routing& r, MutTensorView y) {
    VX_ASSIGN(gate_.routed.x, x_.For(w.w1[0]));
    gate_.routed.rows = r.pair_token;
    gate_.routed.offsets = r.offsets;
    gate_.routed.w1 = w.w1;
    gate_.routed.w3 = w.w3;
    gate_.routed.row_weight = r.weights;
    gate_.routed.row_index = r.pair_slot;
    gate_.routed.limit = float(s_.config.swiglu_limit);
    gate_.routed.y = s_.Activations({y.dim(0), s_.config.expert_dim});
    down_.routed = {.offsets = r.offsets, .w2 = w.w2, .y = y};
    return {};
  }

  Status AddShared(const MoeWeights& w, MutTensorView y) {
    VX_ASSIGN(gate_.shared.x, x_.For(w.shared_w1));
    gate_.shared.w1 = {&w.shared_w1, 1};
    gate_.shared.w3 = {&w.shared_w3, 1};
    gate_.shared.limit = s_.clamp_shared_expert ? float(s_.config.swiglu_limit) : 0.0f;
    gate_.shared.y = s_.Activations({y.dim(0), s_.config.expert_dim});
    down_.shared = {.w2 = {&w.shared_w2, 1}, .y = y};
    return {};
  }

  Status Run() {
    VX_TRY(vexil::Run<ExpertGate>(s_.ctx, gate_));
    VX_TRY(SetInput(gate_.routed, down_.routed));
    VX_TRY(SetInput(gate_.shared, down_.shared));
    return vexil::Run<ExpertDown>(s_.ctx, down_);
  }

 private:
  // Rounding to E4M3 is left to the product.
  Status SetInput(const ExpertGate::Part& from, ExpertDown::Part& to) const {
    if (from.empty()) return {};
    to.round = LinearInput::RoundsToE4M3(s_, to.w2[0]);
    to.x = from.y;
    if (!to.round) {
      VX_ASSIGN(to.x, LinearInput(s_, from.y).For(to.w2[0]));
    }
    return {};
  }

  const ForwardStep& s_;
  LinearInput& x_;
  ExpertGate::Args gate_;
  ExpertDown::Args down_;
};

}  // namespace

Status Moe(const ForwardStep& s, int64_t layer, const MoeWeights& w, LinearInput& x, MutTensorView out) {
  Arena::Scope scope(s.arena());
  VX_ASSIGN(const Routing routing, Route(s, layer, w, x));
  const MutTensorView shared = s.Activations({s.n(), s.config.dim});
  const MutTensorView routed = s.Activations({s.n() * s.config.experts_per_token, s.config.dim});
  Experts experts(s, x);
  VX_TRY(experts.AddShared(w, shared));
  if (s.expert_cache && s.expert_cache->HasHostExperts(layer)) {
    // Experts in host memory are asked for first and used last: the shared expert runs meanwhile.
    VX_ASSIGN(ExpertCache::Use host_experts, s.expert_cache->Begin(s.ctx, layer, routing.offsets));
    VX_TRY(experts.Run());
    VX_ASSIGN(const ExpertLists lists, host_experts.Bring());
    Experts late(s, x);
    VX_TRY(late.AddRouted(lists, routing, routed));
    VX_TRY(late.Run());
  } else {
    VX_TRY(experts.AddRouted({w.w1, w.w3, w.w2}, routing, routed));
    VX_TRY(experts.Run());
  }
  return Run<MoeCombine>(
      s.ctx, {.y = routed, .experts = routing.experts, .pair_of = routing.pair_of, .shared = shared, .out = out});
}

}  // namespace vexil::v4
