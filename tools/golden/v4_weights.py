"""The weights of a DeepSeek-V4 checkpoint as float64 arrays, under the published names (spec: checkpoint).

Reads published checkpoints (E4M3 with 128 x 128 E8M0 scales, packed E2M1 with 1 x 32 scales, BF16, F32) and plain
checkpoints under transformers' names. All dequantisation is exact.
"""
import json
import os
import re
from dataclasses import dataclass

import numpy as np

import formats
import safetensors_np

FP8_TILE = 128
FP4_GROUP = 32

_TOP_LEVEL_NAMES = {
    "embed.weight": "model.embed_tokens.weight",
    "head.weight": "lm_head.weight",
    "norm.weight": "model.norm.weight",
    "hc_head_fn": "model.hc_head.hc_fn",
    "hc_head_base": "model.hc_head.hc_base",
    "hc_head_scale": "model.hc_head.hc_scale",
}
_LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "hc_attn_fn": "attn_hc.fn",
    "hc_attn_base": "attn_hc.base",
    "hc_attn_scale": "attn_hc.scale",
    "hc_ffn_fn": "ffn_hc.fn",
    "hc_ffn_base": "ffn_hc.base",
    "hc_ffn_scale": "ffn_hc.scale",
    "attn.attn_sink": "self_attn.sinks",
    "attn.wq_a.weight": "self_attn.q_a_proj.weight",
    "attn.q_norm.weight": "self_attn.q_a_norm.weight",
    "attn.wq_b.weight": "self_attn.q_b_proj.weight",
    "attn.wkv.weight": "self_attn.kv_proj.weight",
    "attn.kv_norm.weight": "self_attn.kv_norm.weight",
    "attn.wo_a.weight": "self_attn.o_a_proj.weight",
    "attn.wo_b.weight": "self_attn.o_b_proj.weight",
    "attn.compressor.wkv.weight": "self_attn.compressor.kv_proj.weight",
    "attn.compressor.wgate.weight": "self_attn.compressor.gate_proj.weight",
    "attn.compressor.ape": "self_attn.compressor.position_bias",
    "attn.compressor.norm.weight": "self_attn.compressor.kv_norm.weight",
    "attn.indexer.wq_b.weight": "self_attn.compressor.indexer.q_b_proj.weight",
    "attn.indexer.weights_proj.weight": "self_attn.compressor.indexer.scorer.weights_proj.weight",
    "attn.indexer.compressor.wkv.weight": "self_attn.compressor.indexer.kv_proj.weight",
    "attn.indexer.compressor.wgate.weight": "self_attn.compressor.indexer.gate_proj.weight",
    "attn.indexer.compressor.ape": "self_attn.compressor.indexer.position_bias",
    "attn.indexer.compressor.norm.weight": "self_attn.compressor.indexer.kv_norm.weight",
    "ffn.gate.weight": "mlp.gate.weight",
    "ffn.gate.bias": "mlp.gate.e_score_correction_bias",
    "ffn.gate.tid2eid": "mlp.gate.tid2eid",
    "ffn.shared_experts.w1.weight": "mlp.shared_experts.gate_proj.weight",
    "ffn.shared_experts.w2.weight": "mlp.shared_experts.down_proj.weight",
    "ffn.shared_experts.w3.weight": "mlp.shared_experts.up_proj.weight",
}


@dataclass(frozen=True)
class Linear:
    """A weight [out, in]; `quantized` says that its storage calls for E4M3 rounding of the input."""

    weight: np.ndarray
    quantized: bool


class Checkpoint:
    """Looks tensors up by their published name in a folder or a single file."""

    def __init__(self, path):
        self.path = path
        self._file_of = {}
        for file in _open_files(path):
            for name in file.names():
                if name in self._file_of:
                    raise ValueError(f"{path}: tensor '{name}' is in two files")
                self._file_of[name] = file

    def plain(self, name, shape):
        """A tensor that is never quantised."""
        tensor = self._read(name)
        if tensor is None:
            raise ValueError(f"{self.path}: tensor '{name}' is missing")
        if tensor.dtype not in ("F32", "BF16"):
            raise ValueError(f"{self.path}: tensor '{name}' is {tensor.dtype}, expected F32 or BF16")
        return self._checked(name, tensor.decode(), shape)

    def integers(self, name, shape):
        tensor = self._read(name)
        if tensor is None or tensor.dtype not in ("I64", "I32"):
            raise ValueError(f"{self.path}: tensor '{name}' is missing or not I64 or I32")
        return self._checked(name, tensor.data.astype(np.int64), shape)

    def linear(self, name, shape):
        """A weight matrix in whatever format it is stored."""
        tensor = self._read(name)
        if tensor is None:
            return Linear(self._checked(name, self._stacked_expert(name), shape), quantized=False)
        if tensor.dtype in ("F32", "BF16"):
            return Linear(self._checked(name, tensor.decode(), shape), quantized=False)
        if tensor.dtype == "I8" and tensor.shape == tuple(shape):
            return Linear(self._dequantize_int8(name, tensor), quantized=False)
        dequantize = {"F8_E4M3": self._dequantize_fp8, "I8": self._dequantize_fp4}.get(tensor.dtype)
        if dequantize is None:
            raise ValueError(f"{self.path}: tensor '{name}' is {tensor.dtype}, expected F8_E4M3, I8, BF16 or F32")
        return Linear(self._checked(name, dequantize(name, tensor), shape), quantized=True)

    def _dequantize_fp8(self, name, tensor):
        rows, columns = tensor.shape
        scales = self._scales(name, (-(-rows // FP8_TILE), -(-columns // FP8_TILE)))
        scales = np.repeat(np.repeat(scales, FP8_TILE, axis=0), FP8_TILE, axis=1)
        return tensor.decode() * scales[:rows, :columns]

    def _dequantize_int8(self, name, tensor):
        """One BF16 or F32 scale per row (spec: quantization, section 8); not rounded to bf16."""
        scale = self.plain(name.removesuffix(".weight") + ".scale", (tensor.shape[0],))
        return tensor.data.astype(np.float64) * scale[:, None]

    def _dequantize_fp4(self, name, tensor):
        values = formats.decode_packed_e2m1(tensor.data)
        scales = self._scales(name, (values.shape[0], -(-values.shape[1] // FP4_GROUP)))
        return values * np.repeat(scales, FP4_GROUP, axis=1)[:, : values.shape[1]]

    def _scales(self, name, shape):
        scale_name = name.removesuffix(".weight") + ".scale"
        tensor = self._read(scale_name)
        if tensor is None or tensor.dtype != "F8_E8M0":
            raise ValueError(f"{self.path}: '{name}' is quantised, but '{scale_name}' is missing or not F8_E8M0")
        return self._checked(scale_name, tensor.decode(), shape)

    def _stacked_expert(self, name):
        """One expert's matrix out of transformers' tensors of all experts."""
        match = re.fullmatch(r"layers\.(\d+)\.ffn\.experts\.(\d+)\.w([123])\.weight", name)
        stack = match and f"model.layers.{match[1]}.mlp.experts." + ("down_proj" if match[3] == "2" else "gate_up_proj")
        if not match or stack not in self._file_of:
            raise ValueError(f"{self.path}: tensor '{name}' is missing")
        weight = self._file_of[stack].read(stack).decode()[int(match[2])]
        half = weight.shape[0] // 2
        return {"1": weight[:half], "2": weight, "3": weight[half:]}[match[3]]

    def _read(self, name):
        for candidate in (name, transformers_name(name)):
            if candidate in self._file_of:
                return self._file_of[candidate].read(candidate)
        return None

    def _checked(self, name, array, shape):
        if array.shape != tuple(shape):
            raise ValueError(f"{self.path}: tensor '{name}' has shape {list(array.shape)}, expected {list(shape)}")
        if array.dtype == np.float64 and not np.isfinite(array).all():
            raise ValueError(f"{self.path}: tensor '{name}' has an element that is not finite")
        return array


def _open_files(path):
    if not os.path.isdir(path):
        return [safetensors_np.File(path)]
    index = os.path.join(path, "model.safetensors.index.json")
    if not os.path.exists(index):
        return [safetensors_np.File(os.path.join(path, "model.safetensors"))]
    with open(index, encoding="utf-8") as f:
        shards = sorted(set(json.load(f)["weight_map"].values()))
    return [safetensors_np.File(os.path.join(path, shard)) for shard in shards]


def transformers_name(name):
    match = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    if not match:
        return _TOP_LEVEL_NAMES.get(name)
    suffix = _LAYER_NAMES.get(match[2])
    return suffix and f"model.layers.{match[1]}.{suffix}"
