#!/usr/bin/env python3
"""Compares the GGUF files that vexil writes with what llama.cpp's own Python package reads from them, and vexil's reading
with what that package writes. Skipped without the package `gguf`. Usage: gguf_check.py VEXIL

1. models/tiny is converted in several types and opened with gguf.GGUFReader: metadata, names, types, shapes, and the
   values that gguf.quants.dequantize gives, against the safetensors file read with NumPy alone (tools/golden).
2. The same tensors and keys are written again by gguf.GGUFWriter; vexil must compute the same logits from that file."""
import json
import os
import subprocess
import sys
import tempfile

from packages import ROOT, require

require("gguf", "numpy")
sys.path.insert(0, os.path.join(ROOT, "tools/golden"))

import gguf  # noqa: E402
import numpy as np  # noqa: E402

import formats  # noqa: E402
import safetensors_np  # noqa: E402

TINY = os.path.join(ROOT, "models/tiny")
SEED = 1
# --experts, --weights
TYPES = [("mxfp4", "bf16"), ("q8_0", "q8_0"), ("bf16", "f32"), ("f16", "f16")]
ROUNDING = {"MXFP4": 0, "BF16": 2**-9, "F16": 2**-11, "F32": 0, "I32": 0}  # of a value that is not exact
LAYER_NAMES = {
    "attn_norm.weight": "attn_norm.weight", "ffn_norm.weight": "ffn_norm.weight",
    "hc_attn_fn": "hc_attn_fn.weight", "hc_attn_base": "hc_attn_base.weight", "hc_attn_scale": "hc_attn_scale.weight",
    "hc_ffn_fn": "hc_ffn_fn.weight", "hc_ffn_base": "hc_ffn_base.weight", "hc_ffn_scale": "hc_ffn_scale.weight",
    "attn.attn_sink": "attn_sinks.weight", "attn.wq_a.weight": "attn_q_a.weight",
    "attn.q_norm.weight": "attn_q_a_norm.weight", "attn.wq_b.weight": "attn_q_b.weight",
    "attn.wkv.weight": "attn_kv.weight", "attn.kv_norm.weight": "attn_kv_a_norm.weight",
    "attn.wo_a.weight": "attn_output_a.weight", "attn.wo_b.weight": "attn_output_b.weight",
    "attn.compressor.ape": "attn_compressor_ape.weight", "attn.compressor.wkv.weight": "attn_compressor_kv.weight",
    "attn.compressor.wgate.weight": "attn_compressor_gate.weight",
    "attn.compressor.norm.weight": "attn_compressor_norm.weight",
    "attn.indexer.wq_b.weight": "indexer.attn_q_b.weight", "attn.indexer.weights_proj.weight": "indexer.proj.weight",
    "attn.indexer.compressor.ape": "indexer_compressor_ape.weight",
    "attn.indexer.compressor.wkv.weight": "indexer_compressor_kv.weight",
    "attn.indexer.compressor.wgate.weight": "indexer_compressor_gate.weight",
    "attn.indexer.compressor.norm.weight": "indexer_compressor_norm.weight",
    "ffn.gate.weight": "ffn_gate_inp.weight", "ffn.gate.bias": "exp_probs_b.bias",
    "ffn.gate.tid2eid": "ffn_gate_tid2eid.weight",
    "ffn.shared_experts.w1.weight": "ffn_gate_shexp.weight", "ffn.shared_experts.w3.weight": "ffn_up_shexp.weight",
    "ffn.shared_experts.w2.weight": "ffn_down_shexp.weight",
}
TOP_NAMES = {
    "embed.weight": "token_embd.weight", "head.weight": "output.weight", "norm.weight": "output_norm.weight",
    "hc_head_fn": "output_hc_fn.weight", "hc_head_base": "output_hc_base.weight", "hc_head_scale": "output_hc_scale.weight",
}


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def source_values():
    """Every tensor under its GGUF name as float64, dequantised here; experts stacked."""
    file = safetensors_np.File(os.path.join(TINY, "model-00001-of-00001.safetensors"))
    names = list(file.names())

    def values(name):
        tensor = file.read(name)
        scale_name = name.removesuffix(".weight") + ".scale"
        if not name.endswith(".weight") or scale_name not in names:
            return tensor.decode()
        scale = file.read(scale_name).decode()
        if tensor.dtype == "I8":
            return formats.decode_packed_e2m1(tensor.data.view(np.uint8)) * np.repeat(scale, 32, axis=1)
        codes = tensor.decode()
        tiles = np.repeat(np.repeat(scale, 128, axis=0), 128, axis=1)
        return codes * tiles[:codes.shape[0], :codes.shape[1]]

    out = {TOP_NAMES[n]: values(n) for n in names if n in TOP_NAMES}
    layers = {int(n.split(".")[1]) for n in names if n.startswith("layers.")}
    for layer in sorted(layers):
        prefix = f"layers.{layer}."
        rest = [n[len(prefix):] for n in names if n.startswith(prefix)]
        out.update({f"blk.{layer}.{LAYER_NAMES[r]}": values(prefix + r) for r in rest if r in LAYER_NAMES})
        experts = 1 + max(int(r.split(".")[2]) for r in rest if r.startswith("ffn.experts."))
        for w, name in (("w1", "gate"), ("w3", "up"), ("w2", "down")):
            parts = [values(f"{prefix}ffn.experts.{e}.{w}.weight") for e in range(experts)]
            out[f"blk.{layer}.ffn_{name}_exps.weight"] = np.stack(parts)
    return out


def read_values(tensor):
    if tensor.tensor_type in (gguf.GGMLQuantizationType.I32, gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
        return tensor.data.astype(np.float64)
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)


def check_values(name, kind, got, want):
    if got.shape != want.shape:
        raise AssertionError(f"{name}: shape {got.shape}, expected {want.shape}")
    if kind == "Q8_0":
        # Half a step of amax / 127 per block, and the rounding of its scale to F16 (normal or not).
        blocks = np.abs(want).reshape(*want.shape[:-1], -1, 32)
        step = np.repeat(blocks.max(axis=-1) / 127, 32, axis=-1)
        bound = step * 0.5001 + 127 * np.maximum(step * 2**-11, 2**-25)
    else:
        bound = np.abs(want) * ROUNDING[kind] + (2**-25 if kind == "F16" else 0)
    worst = np.max(np.abs(got - want) - bound)
    if worst > 0:
        raise AssertionError(f"{name} ({kind}): off by {worst} more than the type's rounding")


def field(reader, key):
    entry = reader.get_field(key)
    if entry is None:
        raise AssertionError(f"{key} is missing")
    return entry.contents()


def check_metadata(reader):
    with open(os.path.join(TINY, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    with open(os.path.join(TINY, "tokenizer.json"), encoding="utf-8") as f:
        text = f.read()
    tokenizer = json.loads(text)
    arch = "deepseek4"
    keys = gguf.Keys
    expected = {
        "general.architecture": arch,
        keys.LLM.BLOCK_COUNT: config["num_hidden_layers"],
        keys.LLM.CONTEXT_LENGTH: config["max_position_embeddings"],
        keys.LLM.EMBEDDING_LENGTH: config["hidden_size"],
        keys.LLM.VOCAB_SIZE: config["vocab_size"],
        keys.LLM.EXPERT_COUNT: config["n_routed_experts"],
        keys.LLM.EXPERT_USED_COUNT: config["num_experts_per_tok"],
        keys.LLM.EXPERT_SHARED_COUNT: 1,
        keys.LLM.EXPERT_FEED_FORWARD_LENGTH: config["moe_intermediate_size"],
        keys.LLM.EXPERT_WEIGHTS_SCALE: config["routed_scaling_factor"],
        keys.LLM.EXPERT_WEIGHTS_NORM: True,
        keys.Attention.HEAD_COUNT: config["num_attention_heads"],
        keys.Attention.HEAD_COUNT_KV: 1,
        keys.Attention.KEY_LENGTH: config["head_dim"],
        keys.Attention.VALUE_LENGTH: config["head_dim"],
        keys.Attention.Q_LORA_RANK: config["q_lora_rank"],
        keys.Attention.SLIDING_WINDOW: config["sliding_window"],
        keys.Attention.LAYERNORM_RMS_EPS: np.float32(config["rms_norm_eps"]),
        keys.Rope.DIMENSION_COUNT: config["qk_rope_head_dim"],
        keys.Rope.FREQ_BASE: config["rope_theta"],
        keys.Rope.SCALING_TYPE: "yarn",
        keys.Rope.SCALING_FACTOR: config["rope_scaling"]["factor"],
        keys.Rope.SCALING_ORIG_CTX_LEN: config["rope_scaling"]["original_max_position_embeddings"],
        keys.Tokenizer.BOS_ID: config["bos_token_id"],
        keys.Tokenizer.EOS_ID: config["eos_token_id"],
        keys.Tokenizer.MODEL: "gpt2",
        keys.Tokenizer.HF_JSON: text,
        # Newer than this package's list of keys; as llama.cpp's converter and loader name them.
        "{arch}.attention.compress_ratios": config["compress_ratios"][:config["num_hidden_layers"]],
        "{arch}.hyper_connection.count": config["hc_mult"],
        "{arch}.hash_layer_count": config["num_hash_layers"],
    }
    for key, want in expected.items():
        got = field(reader, key.format(arch=arch))
        if got != want:
            raise AssertionError(f"{key}: found {got}, expected {want}")
    tokens = field(reader, "tokenizer.ggml.tokens")
    types = field(reader, "tokenizer.ggml.token_type")
    if len(tokens) != config["vocab_size"] or len(types) != len(tokens):
        raise AssertionError(f"{len(tokens)} tokens and {len(types)} types, expected {config['vocab_size']}")
    wrong = [t for t, i in tokenizer["model"]["vocab"].items() if tokens[i] != t]
    wrong += [a["content"] for a in tokenizer["added_tokens"] if tokens[a["id"]] != a["content"] or types[a["id"]] not in (3, 4)]
    if wrong:
        raise AssertionError(f"tokens at other places: {wrong[:5]}")
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    if field(reader, "tokenizer.ggml.merges") != merges:
        raise AssertionError("tokenizer.ggml.merges differs")


def check_tensors(reader, want, experts, weights):
    if {t.name for t in reader.tensors} != set(want):
        raise AssertionError(f"names differ: {sorted({t.name for t in reader.tensors} ^ set(want))[:5]}")
    kinds = {}
    for tensor in reader.tensors:
        kind = tensor.tensor_type.name
        kinds[kind] = kinds.get(kind, 0) + 1
        if tuple(tensor.shape.tolist()) != want[tensor.name].shape[::-1]:
            raise AssertionError(f"{tensor.name}: shape {tensor.shape}, expected {want[tensor.name].shape[::-1]}")
        if "_exps" in tensor.name and kind.lower() != experts:
            raise AssertionError(f"{tensor.name}: {kind}, expected {experts}")
        if ("_shexp" in tensor.name or "attn_q_a.weight" in tensor.name) and kind.lower() != weights:
            raise AssertionError(f"{tensor.name}: {kind}, expected {weights}")
        check_values(tensor.name, kind, read_values(tensor), want[tensor.name])
    return kinds


def write_again(reader, path):
    """The same keys and tensors, written by the package."""
    writer = gguf.GGUFWriter(path, "deepseek4")
    for key, entry in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = entry.types[0]
            sub_type = entry.types[1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, entry.contents(), kind, sub_type=sub_type)
    for tensor in reader.tensors:
        plain = tensor.tensor_type.name in ("F32", "F16", "I32")
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=None if plain else tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(vexil, path, folder):
    tokens, output = os.path.join(folder, "tokens.json"), os.path.join(folder, "logits.safetensors")
    with open(tokens, "w", encoding="utf-8") as f:
        json.dump([np.random.default_rng(SEED).integers(0, 2048, 40).tolist()], f)
    run(vexil, "logits", "--ckpt-path", path, "--tokens", tokens, "--output", output)
    return safetensors_np.File(output).read("logits.0").data.tobytes()


def main():
    vexil = os.path.abspath(sys.argv[1])
    want = source_values()
    with tempfile.TemporaryDirectory() as folder:
        for experts, weights in TYPES:
            output = os.path.join(folder, f"{experts}-{weights}")
            run(vexil, "convert", "gguf", "--ckpt-path", TINY, "--output", output, "--experts", experts, "--weights", weights)
            path = os.path.join(output, "model.gguf")
            reader = gguf.GGUFReader(path)
            check_metadata(reader)
            kinds = check_tensors(reader, want, experts, weights)
            print(f"experts {experts}, weights {weights}: {len(reader.tensors)} tensors, {kinds}")
            again = os.path.join(folder, "again.gguf")
            write_again(reader, again)
            if logits(vexil, path, folder) != logits(vexil, again, folder):
                raise AssertionError("vexil computes other logits from the package's file")
    print("vexil and the gguf package agree")


if __name__ == "__main__":
    main()
