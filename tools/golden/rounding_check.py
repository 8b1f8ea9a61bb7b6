#!/usr/bin/python3
"""Checks that fp8 mode rounds what it must, in blocks of the right lengths, on models that are sensitive to it.

The trained model's scores hardly show whether indexer vectors are rounded to FP4, nor how long the blocks of its KV
rows are. So small models are drawn: one whose indexer chooses a dozen entries among many, and two whose KV rows and linear
inputs have channels of very different sizes, so that a scale taken over other channels flushes small ones to zero. `vexil logits`
must agree with the NumPy model, and every variant of the NumPy model with one rounding left out or with blocks of
another length must be told from it.

Usage: rounding_check.py VEXIL. Exit status 1 when a bound is missed.
"""
import argparse
import os
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

import random_check  # noqa: E402
import random_model  # noqa: E402
from v4_config import Config  # noqa: E402
from v4_model import Model, Trace  # noqa: E402
from v4_numerics import Numerics  # noqa: E402
from v4_weights import Checkpoint  # noqa: E402

LENGTH = 240
MIN_AGREEMENT = 0.85  # of the program with the NumPy model; sums in another order cost some
MAX_AGREEMENT = 0.75  # of a wrong variant with the NumPy model

BASE = {
    "model_type": "deepseek_v4", "vocab_size": 64, "hidden_size": 256, "num_attention_heads": 4, "head_dim": 272,
    "qk_rope_head_dim": 16, "q_lora_rank": 160, "o_groups": 2, "o_lora_rank": 48, "sliding_window": 16,
    "index_n_heads": 4, "index_head_dim": 128, "index_topk": 12, "moe_intermediate_size": 64, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "num_hash_layers": 1, "num_hidden_layers": 1, "compress_ratios": [4],
    "routed_scaling_factor": 1.5, "scoring_func": "sqrtsoftplus", "swiglu_limit": 10.0, "hc_mult": 4,
    "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "compress_rope_theta": 160000.0,
    "num_nextn_predict_layers": 0,
}  # fmt: skip


class OneLayer(random_check.Case):
    """One layer, so that what is seen behind it has no other cause."""

    mode, storage, names, files, chunk, threads = "fp8", "quantized", "published", 1, 64, 2

    def __init__(self, seed, change=None):
        rng = np.random.default_rng(seed)
        self.config = self.dialect_config = BASE
        self.tensors = random_model.Weights(BASE, rng, self.storage).draw()
        if change:
            change(self.tensors, rng)
        self.tokens = [rng.integers(0, BASE["vocab_size"], LENGTH).tolist()]


def spread_channels(tensors, rng):
    """Multiplies every channel of the KV rows by a power of two, 1 to 2^-14, and its column of wo_a by the inverse."""
    dim, heads_per_group = BASE["head_dim"], BASE["num_attention_heads"] // BASE["o_groups"]
    exponents = -rng.integers(0, 15, dim)
    exponents[-BASE["qk_rope_head_dim"] :] = 0
    prefix = "layers.0.attn"
    for name in (f"{prefix}.kv_norm.weight", f"{prefix}.compressor.norm.weight"):
        tensors[name] = random_model.bf16_tensor(np.ldexp(tensors[name].decode(), exponents))
    shape = tensors[f"{prefix}.wo_a.weight"].shape
    values = rng.uniform(-0.05, 0.05, shape)
    del tensors[f"{prefix}.wo_a.scale"]
    tensors[f"{prefix}.wo_a.weight"] = random_model.bf16_tensor(np.ldexp(values, np.tile(-exponents, heads_per_group)))


def spread_inputs(tensors, rng):
    """The same for the channels of the attention's input and the columns of the linears that read it."""
    exponents = -rng.integers(0, 12, BASE["hidden_size"])
    norm, prefix = "layers.0.attn_norm.weight", "layers.0.attn"
    tensors[norm] = random_model.bf16_tensor(np.ldexp(tensors[norm].decode(), exponents))
    for name in (f"{prefix}.wq_a", f"{prefix}.wkv"):
        values = rng.uniform(-0.1, 0.1, tensors[f"{name}.weight"].shape)
        random_model.store_e4m3(tensors, name, np.ldexp(values, -exponents))


def picks(trace):
    """Rows of queries that have more candidates than they may pick, as sets."""
    return np.sort(trace.picks[0][4 * (BASE["index_topk"] + 1) :], axis=1)


def streams(trace):
    return trace.streams[0].astype(np.float32).reshape(LENGTH, -1)


def agreement(a, b):
    return float((a == b).all(axis=1).mean())


class Check:
    def __init__(self, vexil):
        self._vexil, self._failures = vexil, 0

    def run(self):
        fp8 = Numerics.of("fp8")
        self._compare("indexer", OneLayer(1), {
            "indexer vectors not rounded": fp8.without(["indexer"]),
            "indexer blocks of 16": fp8.with_blocks(index_block=16),
            "indexer blocks of 64": fp8.with_blocks(index_block=64),
        }, self._picks)  # fmt: skip
        self._compare("KV rows", OneLayer(2, spread_channels), {
            "KV rows not rounded": fp8.without(["kv"]),
            "KV blocks of 32": fp8.with_blocks(kv_block=32),
            "KV blocks of 128": fp8.with_blocks(kv_block=128),
            "KV blocks of 272": fp8.with_blocks(kv_block=272),
        }, self._streams)  # fmt: skip
        self._compare("linear inputs", OneLayer(3, spread_inputs), {
            "inputs not rounded": fp8.without(["linear_input"]),
            "input blocks of 64": fp8.with_blocks(linear_block=64),
            "input blocks of 256": fp8.with_blocks(linear_block=256),
        }, self._streams)  # fmt: skip
        return self._failures == 0

    def _compare(self, what, model, variants, measure):
        with tempfile.TemporaryDirectory() as folder:
            model.write(folder)
            got = random_check.run_vexil(self._vexil, model, folder)
            checkpoint = Checkpoint(os.path.join(folder, "reference"))
            config = Config.from_json(model.config)

            def trace(numerics):
                result = Trace()
                Model(checkpoint, config, numerics).forward(model.tokens[0], result)
                return result

            right = trace(Numerics.of("fp8"))
            seen = Trace(streams=[got.read("hidden.0.0").decode()], picks=[got.read("picks.0.0").data])
            self._report(f"{what}: vexil", measure(right, seen), lambda share: share >= MIN_AGREEMENT)
            for name, numerics in variants.items():
                self._report(f"{what}: {name}", measure(right, trace(numerics)), lambda share: share <= MAX_AGREEMENT)

    @staticmethod
    def _picks(right, other):
        return agreement(picks(right), picks(other))

    @staticmethod
    def _streams(right, other):
        return agreement(streams(right), streams(other))

    def _report(self, name, share, expected):
        ok = expected(share)
        self._failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name}: the same at {share:.1%} of the positions")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vexil")
    return 0 if Check(parser.parse_args().vexil).run() else 1


if __name__ == "__main__":
    sys.exit(main())
