#!/usr/bin/python3
"""Damages checkpoints, configurations and tokenizers in hundreds of ways and runs the program on them.

Every run must end with status 2 and one line that names the file, and the tensor or key where one is at fault, or, if
the damage changes nothing that counts, with the answer of the undamaged files. Usage: damage_check.py VEXIL
"""
import copy
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden"))

import numpy as np  # noqa: E402

import random_model  # noqa: E402
import safetensors_np  # noqa: E402
from safetensors_np import Tensor  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VEXIL = None  # set by main

CONFIG = {
    "model_type": "deepseek_v4", "vocab_size": 40, "hidden_size": 64, "num_attention_heads": 4, "head_dim": 24,
    "qk_rope_head_dim": 8, "q_lora_rank": 32, "o_groups": 2, "o_lora_rank": 16, "sliding_window": 8,
    "index_n_heads": 2, "index_head_dim": 16, "index_topk": 2, "moe_intermediate_size": 32, "n_routed_experts": 3,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2, "num_hash_layers": 1, "num_hidden_layers": 3, "compress_ratios": [0, 4, 8],
    "routed_scaling_factor": 1.5, "scoring_func": "sqrtsoftplus", "swiglu_limit": 10.0, "hc_mult": 4,
    "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "compress_rope_theta": 160000.0, "num_nextn_predict_layers": 0,
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32,
                     "beta_slow": 1},
}  # fmt: skip
# Values that no key takes, or that do not fit the tensors.
WRONG_VALUES = (-1, 1.5, 10**30, 1e300, "four", True, [], [1], {}, float("nan"), float("inf"))
REAL_KEYS = {"routed_scaling_factor", "route_scale", "swiglu_limit", "rope_theta", "compress_rope_theta", "rope_factor",
             "beta_fast", "beta_slow", "hc_eps", "rms_norm_eps"}  # fmt: skip


class DamageTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.tensors = random_model.Weights(CONFIG, np.random.default_rng(5), "quantized").draw()
        self.model = os.path.join(self.folder, "model.safetensors")
        self.config = os.path.join(self.folder, "config.json")
        safetensors_np.save(self.model, self.tensors)
        self.write_json(self.config, CONFIG)
        self.tokens = os.path.join(self.folder, "tokens.json")
        self.write_json(self.tokens, [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])

    def write_json(self, path, value):
        with open(path, "w", encoding="utf-8") as f:
            json.dump(value, f)

    def vexil(self, *args):
        done = subprocess.run([VEXIL, *args], capture_output=True, timeout=60)
        self.assertIn(done.returncode, (0, 2), (args, done.stderr))
        return done

    def assert_refused(self, done, *names):
        message = done.stderr.decode()
        self.assertEqual(done.returncode, 2, f"accepted, expected an error with {names}")
        self.assertRegex(message, r"\Avexil: [^\n]+\n\Z")
        for name in names:
            self.assertIn(name, message)

    def logits(self):
        """(the run, the answer)"""
        output = os.path.join(self.folder, "out.bin")
        done = self.vexil("logits", "--ckpt-path", self.model, "--tokens", self.tokens, "--output", output)
        if done.returncode:
            self.assertFalse([name for name in os.listdir(self.folder) if name.startswith("out.bin")], "left behind")
            return done, None
        with open(output, "rb") as f:
            answer = f.read()
        os.remove(output)
        return done, answer

    def refused_with(self, tensors, *names):
        safetensors_np.save(self.model, tensors)
        self.assert_refused(self.vexil("inspect", "--ckpt-path", self.model), self.model, *names)


class CheckpointTest(DamageTest):
    def test_truncated_anywhere(self):
        with open(self.model, "rb") as f:
            whole = f.read()
        header = 8 + int.from_bytes(whole[:8], "little")
        ends = {0, 1, 7, 8, 9, header - 1, header, header + 1, len(whole) - 1}
        ends |= set(np.linspace(10, len(whole) - 2, 24, dtype=int).tolist())
        for end in sorted(ends):
            with self.subTest(end=end):
                with open(self.model, "wb") as f:
                    f.write(whole[:end])
                self.assert_refused(self.vexil("inspect", "--ckpt-path", self.model), self.model)

    def test_header_with_one_other_byte(self):
        with open(self.model, "rb") as f:
            whole = f.read()
        header = 8 + int.from_bytes(whole[:8], "little")
        _, answer = self.logits()
        rng = np.random.default_rng(1)
        for at in [*range(8), *rng.integers(8, header, 60).tolist()]:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(8))
            with self.subTest(at=at):
                with open(self.model, "wb") as f:
                    f.write(damaged)
                done, other = self.logits()
                if other is None:
                    self.assert_refused(done, self.model)
                else:
                    self.assertEqual(other, answer)

    def test_any_tensor_missing(self):
        for name in self.tensors:
            with self.subTest(name=name):
                self.refused_with({n: t for n, t in self.tensors.items() if n != name}, name, "missing")

    def test_any_tensor_of_another_shape(self):
        for name, tensor in self.tensors.items():
            tensor = tensor if isinstance(tensor, Tensor) else Tensor(safetensors_np.NAME_OF[tensor.dtype], tensor)
            shape = (1, *tensor.shape) if len(tensor.shape) == 1 else (*tensor.shape[1:], tensor.shape[0])
            if shape == tensor.shape:
                shape = (1, *shape)
            with self.subTest(name=name):
                changed = {**self.tensors, name: Tensor(tensor.dtype, tensor.data.reshape(shape))}
                self.refused_with(changed, name, str(list(shape)), "expected")

    def test_any_tensor_of_another_type(self):
        other = {"BF16": "I16", "F32": "I32", "F8_E4M3": "F8_E8M0", "F8_E8M0": "F8_E4M3", "I8": "F8_E8M0", "I64": "F64"}
        for name, tensor in self.tensors.items():
            tensor = tensor if isinstance(tensor, Tensor) else Tensor(safetensors_np.NAME_OF[tensor.dtype], tensor)
            wrong = other[tensor.dtype]
            with self.subTest(name=name):
                self.refused_with({**self.tensors, name: Tensor(wrong, tensor.data)}, name, wrong)

    def test_tensors_of_no_model(self):
        extra = np.zeros(4, np.float32)
        for name in ("surprise", "layers.0.attn.compressor.ape", "layers.3.attn_norm.weight", "mtp.0.norm.weight",
                     "layers.0.ffn.gate.bias", "layers.-1.attn_norm.weight", "layers.1.ffn.experts.3.w1.weight",
                     "layers.2.attn.indexer.compressor.ape", "head.bias", "layers.01.attn_norm.weight", ""):  # fmt: skip
            with self.subTest(name=name):
                self.refused_with({**self.tensors, name: extra}, f"'{name}'", "does not belong")

    def test_one_tensor_under_two_names(self):
        copied = {**self.tensors, "model.norm.weight": self.tensors["norm.weight"]}
        self.refused_with(copied, "norm.weight", "model.norm.weight")

    def test_expert_tables(self):
        name = "layers.0.ffn.gate.tid2eid"
        for value, expected in ((3, "0 to 2"), (-1, "0 to 2"), (2**40, "0 to 2"), (None, "twice")):
            table = self.tensors[name].copy()
            table[7, 1] = table[7, 0] if value is None else value
            with self.subTest(value=value):
                self.refused_with({**self.tensors, name: table}, name, "row 7", expected)

    def test_numbers_that_are_none(self):
        for name, at in (("norm.weight", 5), ("layers.1.hc_attn_fn", 7), ("layers.1.attn.wkv.scale", 0)):
            damaged = copy.deepcopy(self.tensors)
            if isinstance(damaged[name], Tensor):
                damaged[name].data.flat[at] = {"BF16": 0x7FC0, "F8_E8M0": 255}[damaged[name].dtype]
            else:
                damaged[name].flat[at] = np.nan
            with self.subTest(name=name):
                self.refused_with(damaged, name, f"element {at}", "finite")

    def test_numbers_that_are_none_in_experts(self):
        tiny = os.path.join(ROOT, "models/tiny")
        for file in ("config.json", "tokenizer.json"):
            shutil.copy(os.path.join(tiny, file), self.folder)
        stored = safetensors_np.File(os.path.join(tiny, "model-00001-of-00001.safetensors"))
        tensors = {name: stored.read(name) for name in stored.names()}
        for name, tensor in tensors.items():
            if ".experts." in name and name.endswith(".w1.scale"):
                tensors[name] = Tensor(tensor.dtype, np.full_like(tensor.data, 255))
        safetensors_np.save(self.model, tensors)
        self.assert_refused(self.vexil("generate", "--ckpt-path", self.folder, "--prompt", "hello"), "prompt 1", "logits")

    def test_index(self):
        names = list(self.tensors)
        files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
        os.remove(self.model)
        for file, part in zip(files, (names[:20], names[20:])):
            safetensors_np.save(os.path.join(self.folder, file), {n: self.tensors[n] for n in part})
        whole = dict.fromkeys(names[:20], files[0]) | dict.fromkeys(names[20:], files[1])
        index = os.path.join(self.folder, "model.safetensors.index.json")
        done = self.vexil("inspect", "--ckpt-path", self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = (
            ({"weight_map": whole | {names[0]: files[1]}}, names[0]),
            ({"weight_map": {n: f for n, f in whole.items() if n != names[3]}}, names[3]),
            ({"weight_map": whole | {"surprise": files[0]}}, "surprise"),
            ({"weight_map": whole | {names[0]: "nowhere.safetensors"}}, "nowhere.safetensors"),
            ({"weight_map": whole | {names[0]: "../model.safetensors"}}, "../model.safetensors"),
            ({"weight_map": whole | {names[0]: 5}}, names[0]),
            ({"weight_map": [], "metadata": {}}, "weight_map"),
            ({"metadata": {"total_size": 7}, "weight_map": whole}, "total_size"),
            ({"metadata": {"total_size": "7"}, "weight_map": whole}, "total_size"),
            ({}, "weight_map"),
            ([], "object"),
        )
        for value, name in rows:
            with self.subTest(name=name):
                self.write_json(index, value)
                self.assert_refused(self.vexil("inspect", "--ckpt-path", self.folder), index, name)
        os.remove(index)
        os.remove(os.path.join(self.folder, files[1]))
        self.assert_refused(self.vexil("inspect", "--ckpt-path", self.folder), self.folder, files[1], "missing")


class ConfigTest(DamageTest):
    def refused(self, config, *names):
        self.write_json(self.config, config)
        self.assert_refused(self.vexil("inspect", "--ckpt-path", self.model), *names)

    def dialects(self):
        return CONFIG, random_model.inference_config(CONFIG), random_model.transformers_config(CONFIG)

    def test_any_key_with_a_wrong_value(self):
        for config in self.dialects():
            # Every third pair: each key meets four of the values, each value a third of the keys.
            for key, value in itertools.islice(itertools.product(config, WRONG_VALUES), 0, None, 3):
                fits = value == 1.5 and key in REAL_KEYS or value == {} and key in ("rope_parameters", "compress_rates")
                if not fits:
                    with self.subTest(key=key, value=value):
                        self.refused(config | {key: value}, self.config, key)

    def test_sizes_that_are_not_those_of_the_tensors(self):
        for key in ("vocab_size", "hidden_size", "head_dim", "q_lora_rank", "o_lora_rank", "moe_intermediate_size",
                    "n_routed_experts", "index_n_heads", "num_hidden_layers", "hc_mult"):  # fmt: skip
            for step in (-1, 1):
                config = CONFIG | {key: CONFIG[key] + step}
                if key == "num_hidden_layers":
                    config["compress_ratios"] = CONFIG["compress_ratios"] + [0]
                with self.subTest(key=key, step=step):
                    self.refused(config, "tensor '")

    def test_values_that_do_not_fit_each_other(self):
        rows = (
            ({"o_groups": 3}, "o_groups"), ({"num_experts_per_tok": 4}, "num_experts_per_tok"),
            ({"qk_rope_head_dim": 26}, "qk_rope_head_dim"), ({"qk_rope_head_dim": 7}, "qk_rope_head_dim"),
            ({"index_head_dim": 24}, "index_head_dim"), ({"num_hash_layers": 4}, "num_hash_layers"),
            ({"compress_ratios": [0, 4]}, "compress_ratios"), ({"compress_ratios": [0, 4, 3]}, "compress_ratios[2]"),
            ({"compress_ratios": [0, 4, -8]}, "compress_ratios[2]"), ({"compress_ratios": [0, 4, 1]}, "compress_ratios[2]"),
            ({"compress_ratios": [0, 4, 512]}, "compress_ratios[2]"), ({"compress_ratios": [0, 4, "8"]}, "compress_ratios[2]"),
            ({"compress_ratios": [0, 4, 8.5]}, "compress_ratios[2]"), ({"compress_ratios": None}, "compress_ratios"),
            ({"num_key_value_heads": 2}, "num_key_value_heads"), ({"n_shared_experts": 2}, "n_shared_experts"),
            ({"eos_token_id": 40}, "eos_token_id"), ({"rope_scaling": {"type": "linear", "factor": 2}}, "type"),
            ({"rope_scaling": {}}, "rope_scaling: factor"), ({"rope_scaling": {"type": "yarn", "factor": 2}}, "original_max"),
            ({"scoring_func": "softmax"}, "scoring_func"), ({"hidden_act": "gelu"}, "hidden_act"),
            ({"attention_bias": True}, "attention_bias"), ({"norm_topk_prob": False}, "norm_topk_prob"),
            ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        )  # fmt: skip
        for change, key in rows:
            with self.subTest(change=change):
                self.refused(CONFIG | change, self.config, key, "found", "expected")

    def test_any_required_key_missing(self):
        optional = {"model_type", "routed_scaling_factor", "scoring_func", "swiglu_limit", "hc_mult", "hc_sinkhorn_iters",
                    "hc_eps", "rms_norm_eps", "index_topk", "n_shared_experts", "rope_theta", "compress_rope_theta",
                    "num_nextn_predict_layers", "rope_scaling", "num_hash_layers"}  # fmt: skip
        for key in CONFIG:
            config = {k: v for k, v in CONFIG.items() if k != key}
            with self.subTest(key=key):
                self.write_json(self.config, config)
                done = self.vexil("inspect", "--ckpt-path", self.model)
                if key not in optional:
                    self.assertEqual(done.returncode, 2, "accepted")
                if done.returncode:
                    self.assertRegex(done.stderr.decode(), r"\Avexil: [^\n]+\n\Z")

    def test_truncated_anywhere_and_no_json(self):
        text = json.dumps(CONFIG)
        for broken in [text[:end] for end in range(0, len(text), 37)] + ["[]", "null", "7", text + "x", "\xff", text * 2]:
            with self.subTest(text=broken[-20:]):
                with open(self.config, "w", encoding="latin-1") as f:
                    f.write(broken)
                self.assert_refused(self.vexil("inspect", "--ckpt-path", self.model), self.config)


class TokenizerTest(DamageTest):
    def setUp(self):
        super().setUp()
        with open(os.path.join(ROOT, "models/tiny/tokenizer.json"), encoding="utf-8") as f:
            self.text = f.read()
        self.json = json.loads(self.text)
        self.path = os.path.join(self.folder, "tokenizer.json")

    def run_on(self, text):
        with open(self.path, "w", encoding="utf-8", errors="surrogatepass") as f:
            f.write(text)
        return self.vexil("tokenize", "--tokenizer", self.path, "--json", "hello")

    def test_truncated_anywhere(self):
        for end in np.linspace(0, len(self.text) - 2, 25, dtype=int):
            with self.subTest(end=end):
                self.assert_refused(self.run_on(self.text[:end]), self.path)

    def test_changes(self):
        def at(path, value):
            def change(root):
                *parents, last = path
                for key in parents:
                    root = root[key]
                if value is None:
                    del root[last]
                else:
                    root[last] = value

            return change

        step = ("pre_tokenizer", "pretokenizers")
        rows = (
            (("model", "vocab"), None, "vocab"), (("model", "merges"), None, "merges"), (("model",), None, "model"),
            (("pre_tokenizer",), None, "pre_tokenizer"), (("model", "type"), "WordPiece", "model.type"),
            (("model", "vocab"), [], "vocab"), (("model", "merges"), {}, "merges"), (("model", "dropout"), 0.1, "dropout"),
            (("model", "byte_fallback"), True, "byte_fallback"), (("model", "unk_token"), "x", "unk_token"),
            (("model", "vocab", "a"), -1, "vocab"), (("model", "vocab", "a"), 10**9, "vocab"),
            (("model", "vocab", "a"), "5", "vocab"), (("model", "vocab", "a"), 5, "id"),
            (("model", "merges", 3), ["a"], "merges[3]"), (("model", "merges", 3), ["a", "\u4e00\u4e00"], "merges[3]"),
            (("model", "merges", 3), 7, "merges[3]"), (("model", "merges", 3), "a b c", "merges[3]"),
            (("added_tokens", 1, "id"), -1, "added_tokens[1]"), (("added_tokens", 1, "id"), 10**9, "end▁of▁sentence"),
            (("added_tokens", 1, "content"), "", "added_tokens[1]"), (("added_tokens", 1, "content"), 7, "added_tokens[1]"),
            (("added_tokens", 1, "lstrip"), True, "added_tokens[1]"), (("added_tokens", 1), "x", "added_tokens[1]"),
            (("added_tokens",), {}, "added_tokens"), (("normalizer",), {"type": "NFC"}, "normalizer"),
            ((*step,), [], "pretokenizers"), ((*step, 0, "type"), "Digits", "pretokenizers[0]"),
            ((*step, 0, "behavior"), "Removed", "pretokenizers[0]"), ((*step, 0, "pattern"), {"Regex": "("}, "pretokenizers[0]"),
            ((*step, 0, "pattern"), {"Regex": "a*"}, "pretokenizers[0]"), ((*step, 0, "pattern"), {"Regex": "(a+)+b"}, "pretokenizers[0]"),
            ((*step, 0, "invert"), True, "pretokenizers[0]"), (("decoder",), {"type": "WordPiece"}, "decoder"),
            (("surprise",), 1, "surprise"),
        )  # fmt: skip
        for path, value, name in rows:
            damaged = copy.deepcopy(self.json)
            at(path, value)(damaged)
            with self.subTest(path=path, value=value):
                self.assert_refused(self.run_on(json.dumps(damaged)), self.path, name)

    def test_more_tokens_than_the_model_has(self):
        shutil.copy(os.path.join(ROOT, "models/tiny/tokenizer.json"), self.folder)
        done = self.vexil("generate", "--ckpt-path", self.model, "--prompt", "hello")
        self.assert_refused(done, "tokenizer.json", "2048", "40")


def main():
    global VEXIL
    VEXIL = os.path.abspath(sys.argv.pop(1))
    unittest.main()


if __name__ == "__main__":
    main()
