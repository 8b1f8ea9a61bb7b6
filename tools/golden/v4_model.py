"""The DeepSeek-V4 forward pass in NumPy, float64 between the rounding points (spec: model).

Written from the specification only, to check other implementations: no cache, no batching, whole sequences.
"""
from dataclasses import dataclass, field

import numpy as np

from v4_attention import Attention, rms_norm, selection_margin

_SOFTPLUS_LINEAR_FROM = 20.0


@dataclass
class Trace:
    """What a forward pass computed, beside the logits; one list entry per layer."""

    streams: list = field(default_factory=list)  # [s, n_hc, D] after the layer
    attn_out: list = field(default_factory=list)  # [s, D]
    ffn_out: list = field(default_factory=list)  # [s, D]
    expert_ids: list = field(default_factory=list)  # [s, k] ascending
    expert_weights: list = field(default_factory=list)  # [s, k] in the order of expert_ids
    picks: list = field(default_factory=list)  # [s, min(topk, s // 4)] in pick order, or None
    margins: list = field(default_factory=list)  # [s] the closest choice, of experts or entries


class Model:
    def __init__(self, checkpoint, cfg, numerics, clamp_shared_expert=True):
        vocab, hidden = cfg.vocab_size, cfg.hidden_size
        self._embed = checkpoint.plain("embed.weight", (vocab, hidden))
        self._layers = [Layer(checkpoint, i, cfg, numerics, clamp_shared_expert) for i in range(cfg.num_layers)]
        self._hc_head = HyperHead(checkpoint, cfg, numerics)
        self._norm = checkpoint.plain("norm.weight", (hidden,))
        self._head = checkpoint.plain("head.weight", (vocab, hidden))
        self._cfg, self._numerics = cfg, numerics

    def forward(self, tokens, trace=None):
        """Logits [s, vocab] of every position; fills `trace` when given."""
        ids = np.asarray(tokens, np.int64)
        if ids.ndim != 1 or not ids.size or ids.min() < 0 or ids.max() >= self._cfg.vocab_size:
            raise ValueError(f"a token sequence must be a non-empty list of ids below {self._cfg.vocab_size}")
        h = np.repeat(self._embed[ids][:, None, :], self._cfg.num_streams, axis=1)
        for layer in self._layers:
            h = layer.forward(h, ids, trace)
        x = rms_norm(self._hc_head.collapse(h), self._norm, self._cfg.norm_eps, self._numerics)
        return self._numerics.f32(self._numerics.matmul(x, self._head.T))


class Layer:
    def __init__(self, checkpoint, index, cfg, numerics, clamp_shared_expert):
        prefix = f"layers.{index}"
        self._hc_attn = HyperConnection(checkpoint, f"{prefix}.hc_attn", cfg, numerics)
        self._hc_ffn = HyperConnection(checkpoint, f"{prefix}.hc_ffn", cfg, numerics)
        self._attn_norm = checkpoint.plain(f"{prefix}.attn_norm.weight", (cfg.hidden_size,))
        self._ffn_norm = checkpoint.plain(f"{prefix}.ffn_norm.weight", (cfg.hidden_size,))
        self._attention = Attention(checkpoint, f"{prefix}.attn", cfg, cfg.compress_ratios[index], numerics)
        hashed = index < cfg.num_hash_layers
        self._moe = Moe(checkpoint, f"{prefix}.ffn", cfg, hashed, numerics, clamp_shared_expert)
        self._eps, self._numerics = cfg.norm_eps, numerics

    def forward(self, h, ids, trace):
        x, post, comb = self._hc_attn.pre(h)
        attn_out, picks, pick_margin = self._attention.forward(rms_norm(x, self._attn_norm, self._eps, self._numerics))
        h = self._hc_attn.post(attn_out, h, post, comb)
        x, post, comb = self._hc_ffn.pre(h)
        x = rms_norm(x, self._ffn_norm, self._eps, self._numerics)
        ffn_out, expert_ids, expert_weights, margin = self._moe.forward(x, ids)
        h = self._hc_ffn.post(ffn_out, h, post, comb)
        if trace is not None:
            trace.streams.append(h)
            trace.attn_out.append(attn_out)
            trace.ffn_out.append(ffn_out)
            trace.expert_ids.append(expert_ids)
            trace.expert_weights.append(expert_weights)
            trace.picks.append(picks)
            trace.margins.append(margin if pick_margin is None else np.minimum(margin, pick_margin))
        return h


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def stream_mixes(h, fn, eps, numerics):
    """fn times the flattened streams, divided by their root mean square after the product (spec: model, 5.1)."""
    u = h.reshape(len(h), -1)
    r = numerics.f32(1.0 / np.sqrt(np.mean(u * u, axis=1, keepdims=True) + eps))
    return numerics.f32(numerics.f32(numerics.matmul(u, fn.T)) * r)


def collapse_streams(h, pre, numerics):
    """x[c] = bf16( sum_m pre_m * h[m][c] )."""
    return numerics.bf16((pre[:, :, None] * h).sum(axis=1))


def sinkhorn(a, iterations, eps):
    """A nearly doubly stochastic matrix from logits [..., n, n] (spec: model, section 5.2)."""
    c = np.exp(a - a.max(axis=-1, keepdims=True))
    c = c / c.sum(axis=-1, keepdims=True) + eps
    c = c / (c.sum(axis=-2, keepdims=True) + eps)
    for _ in range(iterations - 1):
        c = c / (c.sum(axis=-1, keepdims=True) + eps)
        c = c / (c.sum(axis=-2, keepdims=True) + eps)
    return c


def hyper_coefficients(mixes, scale, base, num_streams, iterations, eps):
    """(pre, post, comb) from the mixes [s, (2 + n) * n] (spec: model, section 5.1)."""
    n = num_streams
    pre = sigmoid(mixes[:, :n] * scale[0] + base[:n]) + eps
    post = 2.0 * sigmoid(mixes[:, n : 2 * n] * scale[1] + base[n : 2 * n])
    logits = mixes[:, 2 * n :] * scale[2] + base[2 * n :]
    return pre, post, sinkhorn(logits.reshape(-1, n, n), iterations, eps)


class HyperConnection:
    """The manifold-constrained hyper-connection around one sub-layer (spec: model, section 5)."""

    def __init__(self, checkpoint, prefix, cfg, numerics):
        n = cfg.num_streams
        self._fn = checkpoint.plain(f"{prefix}_fn", ((2 + n) * n, n * cfg.hidden_size))
        self._base = checkpoint.plain(f"{prefix}_base", ((2 + n) * n,))
        self._scale = checkpoint.plain(f"{prefix}_scale", (3,))
        self._cfg, self._numerics = cfg, numerics

    def pre(self, h):
        """Streams [s, n, D] -> the sub-layer's input [s, D] and the coefficients for post()."""
        cfg, numerics = self._cfg, self._numerics
        mixes = stream_mixes(h, self._fn, cfg.norm_eps, numerics)
        coefficients = hyper_coefficients(
            mixes, self._scale, self._base, cfg.num_streams, cfg.sinkhorn_iters, cfg.hc_eps
        )
        pre, post, comb = (numerics.f32(c) for c in coefficients)
        return collapse_streams(h, pre, numerics), post, comb

    def post(self, x, residual, post, comb):
        """h[k] = bf16( post_k * x + sum_j comb[j][k] * residual[j] ), the two terms being f32 (spec: model, 5.3)."""
        numerics = self._numerics
        mixed = numerics.f32(comb.swapaxes(1, 2) @ residual)
        return numerics.bf16(numerics.f32(post[:, :, None] * x[:, None, :]) + mixed)


class HyperHead:
    """Collapses the streams before the output head (spec: model, section 10)."""

    def __init__(self, checkpoint, cfg, numerics):
        n = cfg.num_streams
        self._fn = checkpoint.plain("hc_head_fn", (n, n * cfg.hidden_size))
        self._base = checkpoint.plain("hc_head_base", (n,))
        self._scale = checkpoint.plain("hc_head_scale", (1,))
        self._cfg, self._numerics = cfg, numerics

    def collapse(self, h):
        mixes = stream_mixes(h, self._fn, self._cfg.norm_eps, self._numerics)
        pre = self._numerics.f32(sigmoid(mixes * self._scale[0] + self._base) + self._cfg.hc_eps)
        return collapse_streams(h, pre, self._numerics)


class Moe:
    """Router, routed experts and the shared expert (spec: model, section 9)."""

    def __init__(self, checkpoint, prefix, cfg, hashed, numerics, clamp_shared_expert):
        k, experts = cfg.num_active_experts, cfg.num_experts
        self._gate = checkpoint.plain(f"{prefix}.gate.weight", (experts, cfg.hidden_size))
        self._bias = None if hashed else checkpoint.plain(f"{prefix}.gate.bias", (experts,))
        self._tid2eid = checkpoint.integers(f"{prefix}.gate.tid2eid", (cfg.vocab_size, k)) if hashed else None
        if hashed and not _rows_are_distinct_ids(self._tid2eid, experts):
            raise ValueError(f"'{prefix}.gate.tid2eid': a row has a repeated expert or one outside 0..{experts - 1}")
        limit = cfg.swiglu_limit
        self._experts = [
            Expert(checkpoint, f"{prefix}.experts.{e}", cfg, limit, numerics) for e in range(experts)
        ]
        shared_limit = limit if clamp_shared_expert else 0.0
        self._shared = Expert(checkpoint, f"{prefix}.shared_experts", cfg, shared_limit, numerics)
        self._k, self._scale, self._numerics = k, cfg.route_scale, numerics

    def forward(self, x, ids):
        """[s, D] -> (out [s, D], expert ids [s, k] ascending, their weights, margins [s] of the choice)."""
        expert_ids, weights, margin = self._route(x, ids)
        acc = np.zeros_like(x)
        for e, expert in enumerate(self._experts):
            tokens, slots = np.nonzero(expert_ids == e)
            if tokens.size:
                y = expert.forward(x[tokens], weights[tokens, slots])
                acc[tokens] = self._numerics.f32(acc[tokens] + y)
        out = self._numerics.bf16(acc + self._shared.forward(x, None))
        return out, expert_ids, weights, margin

    def _route(self, x, ids):
        f32 = self._numerics.f32
        logits = f32(self._numerics.matmul(x, self._gate.T))
        softplus = np.log1p(np.exp(np.minimum(logits, _SOFTPLUS_LINEAR_FROM)))
        softplus = f32(np.where(logits > _SOFTPLUS_LINEAR_FROM, logits, softplus))
        affinity = f32(np.sqrt(softplus))
        if self._tid2eid is not None:
            chosen, margin = self._tid2eid[ids], np.full(len(x), np.inf)
        else:
            scores = f32(affinity + self._bias)
            order = np.argsort(-scores, axis=1, kind="stable")
            margin = selection_margin(np.take_along_axis(scores, order, axis=1), self._k)
            chosen = order[:, : self._k]
        chosen = np.sort(chosen, axis=1)
        weights = np.take_along_axis(affinity, chosen, axis=1)
        weights = f32(weights / f32(weights.sum(axis=1, keepdims=True)))
        return chosen, f32(weights * self._scale), margin


def _rows_are_distinct_ids(table, count):
    ordered = np.sort(table, axis=1)
    return ordered.min() >= 0 and ordered.max() < count and (np.diff(ordered, axis=1) > 0).all()


class Expert:
    """SwiGLU with clamped branches; a limit of 0 means no clamp (spec: model, section 9.2)."""

    def __init__(self, checkpoint, prefix, cfg, limit, numerics):
        hidden, inner = cfg.hidden_size, cfg.expert_size
        self._w1 = checkpoint.linear(f"{prefix}.w1.weight", (inner, hidden))
        self._w2 = checkpoint.linear(f"{prefix}.w2.weight", (hidden, inner))
        self._w3 = checkpoint.linear(f"{prefix}.w3.weight", (inner, hidden))
        self._limit, self._numerics = limit, numerics

    def forward(self, x, weights):
        """`weights` [tokens] multiplies before the down projection; None for the shared expert."""
        numerics = self._numerics
        gate, up = numerics.linear(x, self._w1), numerics.linear(x, self._w3)
        if self._limit:
            gate, up = np.minimum(gate, self._limit), np.clip(up, -self._limit, self._limit)
        v = numerics.f32(numerics.f32(gate * sigmoid(gate)) * up)
        if weights is not None:
            v = numerics.f32(v * weights[:, None])
        return numerics.linear(numerics.bf16(v), self._w2)
