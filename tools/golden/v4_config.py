"""The configuration of a DeepSeek-V4 model (spec: model, section 1), from either of two config.json dialects:
the published one (compress_ratios, num_hash_layers, rope_scaling) and transformers' own (layer_types,
mlp_layer_types, rope_parameters)."""
import json
from dataclasses import dataclass

CSA_RATIO = 4  # the only ratio with an overlapping compressor and an indexer

_RATIO_OF_LAYER_TYPE = {
    "sliding_attention": 0,
    "compressed_sparse_attention": CSA_RATIO,
    "heavily_compressed_attention": 128,
}


@dataclass(frozen=True)
class Yarn:
    factor: float
    original_length: int
    beta_fast: float
    beta_slow: float


@dataclass(frozen=True)
class Config:
    vocab_size: int
    hidden_size: int
    expert_size: int
    num_layers: int
    num_hash_layers: int
    num_heads: int
    head_dim: int
    rope_dim: int
    q_rank: int
    num_o_groups: int
    o_rank: int
    window: int
    compress_ratios: tuple
    num_index_heads: int
    index_dim: int
    index_topk: int
    num_experts: int
    num_active_experts: int
    route_scale: float
    swiglu_limit: float
    num_streams: int
    sinkhorn_iters: int
    hc_eps: float
    norm_eps: float
    rope_theta: float
    compress_rope_theta: float
    yarn: Yarn | None

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as f:
            try:
                return cls.from_json(json.load(f))
            except KeyError as error:
                raise ValueError(f"{path}: the key {error} is missing") from None

    @classmethod
    def from_json(cls, c):
        num_layers = c["num_hidden_layers"]
        ratios = _compress_ratios(c)[:num_layers]
        if len(ratios) != num_layers or any(type(r) is not int or r < 0 or r == 1 for r in ratios):
            raise ValueError(f"compress ratios {list(ratios)}: expected {num_layers} entries, 0 or at least 2")
        if c.get("scoring_func", "sqrtsoftplus") != "sqrtsoftplus" or not c.get("norm_topk_prob", True):
            raise ValueError("only the scoring_func 'sqrtsoftplus' with norm_topk_prob is known")
        return cls(
            vocab_size=c["vocab_size"],
            hidden_size=c["hidden_size"],
            expert_size=c["moe_intermediate_size"],
            num_layers=num_layers,
            num_hash_layers=_num_hash_layers(c),
            num_heads=c["num_attention_heads"],
            head_dim=c["head_dim"],
            rope_dim=c["qk_rope_head_dim"],
            q_rank=c["q_lora_rank"],
            num_o_groups=c["o_groups"],
            o_rank=c["o_lora_rank"],
            window=c["sliding_window"],
            compress_ratios=ratios,
            num_index_heads=c["index_n_heads"],
            index_dim=c["index_head_dim"],
            index_topk=c["index_topk"],
            num_experts=c["n_routed_experts"],
            num_active_experts=c["num_experts_per_tok"],
            route_scale=c["routed_scaling_factor"],
            swiglu_limit=c["swiglu_limit"],
            num_streams=c["hc_mult"],
            sinkhorn_iters=c["hc_sinkhorn_iters"],
            hc_eps=c["hc_eps"],
            norm_eps=c["rms_norm_eps"],
            rope_theta=c["rope_theta"],
            compress_rope_theta=c["compress_rope_theta"],
            yarn=_yarn(c),
        )


def _compress_ratios(c):
    if "compress_ratios" in c:
        return tuple(c["compress_ratios"])
    rates = c.get("compress_rates", {})
    return tuple(rates.get(t, _RATIO_OF_LAYER_TYPE.get(t)) for t in c["layer_types"])


def _num_hash_layers(c):
    if "num_hash_layers" in c:
        return c["num_hash_layers"]
    kinds = c["mlp_layer_types"]
    count = kinds.count("hash_moe")
    if "hash_moe" in kinds[count:]:
        raise ValueError("mlp_layer_types: hash-routed layers must come first")
    return count


def _yarn(c):
    scaling = c.get("rope_scaling") or c.get("rope_parameters", {}).get("compress") or {}
    if scaling.get("type", scaling.get("rope_type")) != "yarn" or not scaling["original_max_position_embeddings"]:
        return None
    return Yarn(
        factor=scaling["factor"],
        original_length=scaling["original_max_position_embeddings"],
        beta_fast=scaling["beta_fast"],
        beta_slow=scaling["beta_slow"],
    )
