"""Random small DeepSeek-V4 models: configurations all over what the specification allows, and weights for them.

A model is a dictionary of tensors under the published names. Other dialects of names and configurations are made from
that, so that one model can be read in every way.
"""
import math

import numpy as np

import formats
from safetensors_np import Tensor
from v4_config import CSA_RATIO

_RATIOS = (0, 4, 4, 4, 128, 128, 2, 8, 16, 32, 64, 256)
STORAGES = ("plain", "f32", "quantized", "quantized", "fp8", "int8")


def random_config(rng):
    """A configuration under the published key names. Its sizes have nothing in common but what they must."""

    def pick(*values):
        return values[rng.integers(len(values))]

    layers, groups = pick(1, 2, 3, 4, 5, 7), pick(1, 1, 2, 3, 4, 5, 7, 8)
    rope = pick(2, 4, 6, 8, 16, 30, 64)
    experts = pick(1, 2, 3, 5, 8, 12, 40)
    ratios = pick(_RATIOS, _RATIOS, (0, 4, 128), (4,), (0,), (128,))
    config = {
        "model_type": "deepseek_v4",
        "architectures": ["DeepseekV4ForCausalLM"],
        "vocab_size": pick(2, 5, 64, 97, 200, 1031),
        "hidden_size": pick(8, 24, 48, 64, 100, 130, 192, 258),
        "num_hidden_layers": layers,
        "num_attention_heads": groups * pick(1, 2, 3, 5),
        "num_key_value_heads": 1,
        "head_dim": rope + pick(0, 1, 6, 16, 48, 70, 112, 193),
        "qk_rope_head_dim": rope,
        "q_lora_rank": pick(4, 10, 32, 150),
        "o_groups": groups,
        "o_lora_rank": pick(3, 8, 20, 48),
        "sliding_window": pick(1, 2, 3, 5, 8, 16, 33, 64, 100, 128, 130, 257),
        "compress_ratios": [pick(*ratios) for _ in range(layers + pick(0, 0, 1))],
        "num_nextn_predict_layers": pick(0, 0, 1),
        "index_n_heads": pick(1, 2, 3, 5, 7, 8, 64),
        "index_head_dim": max(pick(4, 16, 32, 64, 128, 256), 1 << (rope - 1).bit_length()),
        "index_topk": pick(1, 2, 3, 4, 8, 30, 512),
        "moe_intermediate_size": pick(4, 10, 32, 66, 140, 258),
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": int(rng.integers(1, min(experts, 10) + 1)),
        "num_hash_layers": pick(0, 0, 1, 2, layers),
        "routed_scaling_factor": pick(1.0, 1.5, 2.5),
        "scoring_func": "sqrtsoftplus",
        "norm_topk_prob": True,
        "swiglu_limit": pick(0.0, 0.5, 2.0, 10.0),
        "hc_mult": pick(4, 4, 4, 1, 2, 3, 5, 6, 7, 8),
        "hc_sinkhorn_iters": pick(20, 20, 1, 2, 7),
        "hc_eps": pick(1e-6, 1e-6, 1e-6, 1e-6, 1e-3, 0.0),
        "rms_norm_eps": pick(1e-6, 1e-6, 1e-6, 1e-6, 1e-4, 1e-2),
        "rope_theta": pick(10000.0, 500.0),
        "compress_rope_theta": pick(160000.0, 40000.0, 2000.0),
        "max_position_embeddings": 4096,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    config["num_hash_layers"] = min(config["num_hash_layers"], layers)
    if pick(True, True, False):
        config["rope_scaling"] = {
            "type": "yarn",
            "factor": pick(4.0, 16.0, 1.5, 1, 40),
            "original_max_position_embeddings": pick(4, 64, 256, 4096, 65536),
            "beta_fast": pick(32, 8, 1.5),
            "beta_slow": pick(1, 0.5),
        }
    return config


def inference_config(config):
    """The same in the keys of the inference program; None where those cannot say it."""
    if config["hc_eps"] != 1e-6 or config["rms_norm_eps"] != 1e-6:
        return None
    same = ("vocab_size", "q_lora_rank", "head_dim", "o_groups", "o_lora_rank", "index_n_heads", "index_head_dim",
            "index_topk", "swiglu_limit", "hc_mult", "hc_sinkhorn_iters", "rope_theta", "compress_rope_theta",
            "n_routed_experts", "n_shared_experts", "compress_ratios")  # fmt: skip
    renamed = {"dim": "hidden_size", "moe_inter_dim": "moe_intermediate_size", "n_layers": "num_hidden_layers",
               "n_hash_layers": "num_hash_layers", "n_heads": "num_attention_heads",
               "n_activated_experts": "num_experts_per_tok", "score_func": "scoring_func",
               "route_scale": "routed_scaling_factor", "rope_head_dim": "qk_rope_head_dim",
               "window_size": "sliding_window", "n_mtp_layers": "num_nextn_predict_layers"}  # fmt: skip
    result = {key: config[key] for key in same} | {new: config[old] for new, old in renamed.items()}
    scaling = config.get("rope_scaling")
    if scaling is None:
        return result | {"original_seq_len": 0}
    return result | {
        "original_seq_len": scaling["original_max_position_embeddings"],
        "rope_factor": scaling["factor"],
        "beta_fast": scaling["beta_fast"],
        "beta_slow": scaling["beta_slow"],
    }


def transformers_config(config):
    """The same as transformers writes it; None where that cannot say it: it has one ratio besides 4."""
    layers = config["num_hidden_layers"]
    ratios = config["compress_ratios"][:layers]
    plain = {r for r in ratios if r not in (0, CSA_RATIO)}
    if len(plain) > 1:
        return None
    kinds = {0: "sliding_attention", CSA_RATIO: "compressed_sparse_attention"}
    dropped = ("compress_ratios", "num_hash_layers", "rope_scaling", "rope_theta", "compress_rope_theta")
    result = {key: value for key, value in config.items() if key not in dropped}
    hashed = config["num_hash_layers"]
    result["layer_types"] = [kinds.get(r, "heavily_compressed_attention") for r in ratios]
    result["mlp_layer_types"] = ["hash_moe"] * hashed + ["moe"] * (layers - hashed)
    result["compress_rates"] = {
        "compressed_sparse_attention": CSA_RATIO,
        "heavily_compressed_attention": min(plain, default=128),
    }
    compress = {"rope_type": "default", "rope_theta": config["compress_rope_theta"]}
    if "rope_scaling" in config:
        scaling = {key: value for key, value in config["rope_scaling"].items() if key != "type"}
        compress |= {"rope_type": "yarn", "attention_factor": 1.0} | scaling
    main = {"rope_type": "default", "rope_theta": config["rope_theta"]}
    result["rope_parameters"] = {"main": main, "compress": compress}
    return result


class Weights:
    """Draws the tensors of a model. `storage` is that of the linears: plain (BF16), f32 (everything), quantized (E4M3
    and E2M1 experts), fp8 (E4M3 experts too) or int8 (the routed experts)."""

    def __init__(self, config, rng, storage="plain"):
        self._c, self._rng, self._storage = config, rng, storage
        self.tensors = {}

    def draw(self):
        c = self._c
        streams, hidden = c["hc_mult"], c["hidden_size"]
        self._plain("embed.weight", (c["vocab_size"], hidden), 1.75)
        for layer in range(c["num_hidden_layers"]):
            self._layer(f"layers.{layer}", c["compress_ratios"][layer], layer < c["num_hash_layers"])
        self._plain("norm.weight", (hidden,), 0.125, 1.0)
        self._plain("head.weight", (c["vocab_size"], hidden), 0.25)
        self._hyper("hc_head", streams, 1)
        if c["num_nextn_predict_layers"]:
            self._draft("mtp.0")
        return self.tensors

    def _draft(self, prefix):
        """The block for speculation of the first release. No forward pass reads it."""
        c = self._c
        self._layer(prefix, 0, False)
        for name in ("e_proj", "h_proj"):
            self._linear(f"{prefix}.{name}", (c["hidden_size"], c["hidden_size"]))
        for name in ("enorm", "hnorm", "norm"):
            self._plain(f"{prefix}.{name}.weight", (c["hidden_size"],), 0.125, 1.0)
        self._hyper(f"{prefix}.hc_head", c["hc_mult"], 1)

    def _layer(self, prefix, ratio, hashed):
        c = self._c
        streams, hidden = c["hc_mult"], c["hidden_size"]
        for name in ("attn_norm", "ffn_norm"):
            self._plain(f"{prefix}.{name}.weight", (hidden,), 0.125, 1.0)
        for name in ("hc_attn", "hc_ffn"):
            self._hyper(f"{prefix}.{name}", (2 + streams) * streams, 3)
        self._attention(f"{prefix}.attn", ratio)
        self._experts(f"{prefix}.ffn", hashed)

    def _hyper(self, prefix, rows, scales):
        width = self._c["hc_mult"] * self._c["hidden_size"]
        self._float32(f"{prefix}_fn", (rows, width), math.sqrt(3 / width))
        self._float32(f"{prefix}_base", (rows,), 1.0)
        self._float32(f"{prefix}_scale", (scales,), 0.25, 1.0)

    def _attention(self, prefix, ratio):
        c = self._c
        heads, dim, rank = c["num_attention_heads"], c["head_dim"], c["q_lora_rank"]
        groups, out_rank, hidden = c["o_groups"], c["o_lora_rank"], c["hidden_size"]
        self._float32(f"{prefix}.attn_sink", (heads,), 2.0)
        self._linear(f"{prefix}.wq_a", (rank, hidden))
        self._plain(f"{prefix}.q_norm.weight", (rank,), 0.125, 1.0)
        self._linear(f"{prefix}.wq_b", (heads * dim, rank))
        self._linear(f"{prefix}.wkv", (dim, hidden))
        self._plain(f"{prefix}.kv_norm.weight", (dim,), 0.125, 1.0)
        self._linear(f"{prefix}.wo_a", (groups * out_rank, heads // groups * dim))
        self._linear(f"{prefix}.wo_b", (hidden, groups * out_rank))
        if ratio:
            self._compressor(f"{prefix}.compressor", ratio, dim)
        if ratio == CSA_RATIO:
            index_heads, index_dim = c["index_n_heads"], c["index_head_dim"]
            self._linear(f"{prefix}.indexer.wq_b", (index_heads * index_dim, rank))
            self._plain(f"{prefix}.indexer.weights_proj.weight", (index_heads, hidden), math.sqrt(3 / hidden))
            self._compressor(f"{prefix}.indexer.compressor", ratio, index_dim)

    def _compressor(self, prefix, ratio, dim):
        width, hidden = (2 if ratio == CSA_RATIO else 1) * dim, self._c["hidden_size"]
        self._float32(f"{prefix}.ape", (ratio, width), 1.0)
        self._plain(f"{prefix}.wkv.weight", (width, hidden), math.sqrt(3 / hidden))
        self._plain(f"{prefix}.wgate.weight", (width, hidden), math.sqrt(3 / hidden))
        self._plain(f"{prefix}.norm.weight", (dim,), 0.125, 1.0)

    def _experts(self, prefix, hashed):
        c = self._c
        hidden, inner, experts, active = (
            c[key] for key in ("hidden_size", "moe_intermediate_size", "n_routed_experts", "num_experts_per_tok")
        )
        self._plain(f"{prefix}.gate.weight", (experts, hidden), math.sqrt(3 / hidden))
        if hashed:
            rows = [self._rng.permutation(experts)[:active] for _ in range(c["vocab_size"])]
            self.tensors[f"{prefix}.gate.tid2eid"] = np.array(rows, np.int64)
        else:
            self._float32(f"{prefix}.gate.bias", (experts,), 0.125)
        for expert in [f"experts.{e}" for e in range(experts)] + ["shared_experts"]:
            self._linear(f"{prefix}.{expert}.w1", (inner, hidden))
            self._linear(f"{prefix}.{expert}.w2", (hidden, inner))
            self._linear(f"{prefix}.{expert}.w3", (inner, hidden))

    def _linear(self, name, shape):
        values = self._uniform(shape, math.sqrt(3 / shape[1]))
        routed = ".experts." in name
        if self._storage in ("plain", "f32") or (self._storage == "int8" and not routed):
            self.tensors[f"{name}.weight"] = self._stored(values)
        elif self._storage == "int8":
            store_int8(self.tensors, name, values)
        elif routed and self._storage == "quantized":
            store_e2m1(self.tensors, name, values)
        else:
            store_e4m3(self.tensors, name, values)

    def _plain(self, name, shape, amplitude, offset=0.0):
        self.tensors[name] = self._stored(self._uniform(shape, amplitude) + offset)

    def _stored(self, values):
        """As BF16 values, stored as such or as F32."""
        tensor = bf16_tensor(values)
        return tensor if self._storage != "f32" else tensor.decode().astype(np.float32)

    def _float32(self, name, shape, amplitude, offset=0.0):
        self.tensors[name] = (self._uniform(shape, amplitude) + offset).astype(np.float32)

    def _uniform(self, shape, amplitude):
        return self._rng.uniform(-amplitude, amplitude, shape)


def bf16_tensor(values):
    bits = formats.round_f32_to_bf16(values).astype(np.float32).view(np.uint32)
    return Tensor("BF16", (bits >> np.uint32(16)).astype(np.uint16))


def store_e4m3(tensors, name, values):
    """A scale per tile of 128 x 128; tiles at the edges are smaller."""
    rows, columns = values.shape
    scales = np.zeros((-(-rows // 128), -(-columns // 128)), np.int32)
    codes = np.zeros(values.shape, np.uint8)
    for r, c in np.ndindex(*scales.shape):
        tile = np.s_[128 * r : 128 * (r + 1), 128 * c : 128 * (c + 1)]
        exponent = int(formats.block_exponent(np.abs(values[tile]).max(), formats.E4M3_MAX))
        codes[tile] = formats.encode_e4m3(formats.round_e4m3(np.ldexp(values[tile], -exponent)))
        scales[r, c] = exponent
    tensors[f"{name}.weight"] = Tensor("F8_E4M3", codes)
    tensors[f"{name}.scale"] = Tensor("F8_E8M0", (scales + 127).astype(np.uint8))


def store_e2m1(tensors, name, values):
    """A scale per 32 columns of a row; two codes per byte, the even column in the low nibble."""
    grid, scales = formats.quantize_fp4_blocks(values, 32)
    codes = formats.encode_e2m1(grid)
    exponents = np.log2(scales[:, ::32]).astype(np.int32)
    tensors[f"{name}.weight"] = Tensor("I8", (codes[:, 0::2] | codes[:, 1::2] << 4).view(np.int8))
    tensors[f"{name}.scale"] = Tensor("F8_E8M0", (exponents + 127).astype(np.uint8))


def store_int8(tensors, name, values):
    scale = bf16_tensor(np.abs(values).max(axis=1) / 127)
    codes = np.clip(np.rint(values / scale.decode()[:, None]), -128, 127).astype(np.int8)
    tensors[f"{name}.weight"], tensors[f"{name}.scale"] = Tensor("I8", codes), scale


def converted(tensors):
    """As the published converter writes them: wo_a dequantised, packed experts under their own type."""
    result = {}
    for name, tensor in tensors.items():
        if name.endswith(".attn.wo_a.scale"):
            continue
        if isinstance(tensor, Tensor) and tensor.dtype == "I8":
            tensor = Tensor("F4", tensor.data)
        elif name.endswith(".attn.wo_a.weight") and tensor.dtype == "F8_E4M3":
            rows, columns = tensor.shape
            scale = tensors[name.removesuffix("weight") + "scale"].decode()
            scale = np.repeat(np.repeat(scale, 128, axis=0), 128, axis=1)[:rows, :columns]
            tensor = bf16_tensor(tensor.decode() * scale)
        result[name] = tensor
    return result


def under_transformers_names(tensors, config, name_of):
    """The state dict of transformers, experts stacked; `name_of` maps the other names. For plain and f32 storage."""
    kept = {name: t for name, t in tensors.items() if ".ffn.experts." not in name and not name.startswith("mtp.")}
    result = {name_of(name): tensor for name, tensor in kept.items()}
    for layer in range(config["num_hidden_layers"]):

        def stack(weight, prefix=f"layers.{layer}.ffn.experts"):
            parts = [tensors[f"{prefix}.{e}.{weight}.weight"] for e in range(config["n_routed_experts"])]
            return np.stack([p.data if isinstance(p, Tensor) else p for p in parts])

        def like_the_others(data):
            return data if data.dtype == np.float32 else Tensor("BF16", data)

        prefix = f"model.layers.{layer}.mlp.experts"
        result[f"{prefix}.gate_up_proj"] = like_the_others(np.concatenate([stack("w1"), stack("w3")], axis=1))
        result[f"{prefix}.down_proj"] = like_the_others(stack("w2"))
    return result
