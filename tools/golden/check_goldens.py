#!/usr/bin/python3
"""Checks the NumPy model against recorded outputs of another implementation on small random models.

Each FOLDER holds config.json, config.release.json, model.safetensors or model.bf16.safetensors (the same numbers),
golden.safetensors and meta.json. In f32 mode
logits, layer outputs, expert ids, index picks and greedy continuations must agree; with the simulated quantisation of
KV rows and indexer vectors as the only rounding, the distance from the goldens must be the recorded one of the
published code (`reference_quantized_activations`). Exit status 1 when a check fails.
"""
import argparse
import json
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

import safetensors_np  # noqa: E402
from v4_config import Config  # noqa: E402
from v4_model import Model, Trace  # noqa: E402
from v4_numerics import Numerics  # noqa: E402
from v4_reference import load_model  # noqa: E402
from v4_weights import Checkpoint  # noqa: E402

WEIGHT_FILES = ("model.safetensors", "model.bf16.safetensors")
LENGTHS = (1, 7, 33, 150, 400)
TRACED_LENGTHS = (33, 150)
MAX_ABS_ERROR = 1e-4
# The recorded distances come from f32 code: its noise may move a value to the next E4M3 or E2M1 code.
QUANTIZED_DISTANCE_TOLERANCE = 0.02


class Checker:
    def __init__(self, folder):
        self._folder = folder
        self._weights = next(
            (path for name in WEIGHT_FILES if os.path.exists(path := os.path.join(folder, name))), folder
        )
        self._goldens = safetensors_np.read_all(os.path.join(folder, "golden.safetensors"))
        self._failures = 0

    def run(self):
        for config in ("config.json", "config.release.json"):
            self._check_logits(load_model(self._weights, "f32", os.path.join(self._folder, config)), config)
        model = load_model(self._weights, "f32")
        for length in TRACED_LENGTHS:
            self._check_layers(model, length)
        for length in LENGTHS:
            self._check_greedy(model, length)
        unclamped = load_model(self._weights, "f32", clamp_shared_expert=False)
        self._near("logits_shared_unclamped.33", unclamped.forward(self._goldens["input_ids.33"]))
        self._check_quantized_distance()
        return self._failures == 0

    def _report(self, ok, text):
        self._failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {self._folder}: {text}")

    def _near(self, name, got, rows=slice(None)):
        error = np.abs(got[rows] - self._goldens[name]).max()
        self._report(error <= MAX_ABS_ERROR, f"{name}: largest difference {error:.1e}")

    def _equal(self, name, got):
        different = np.count_nonzero(got != self._goldens[name])
        self._report(different == 0, f"{name}: {different} of {got.size} entries differ")

    def _check_logits(self, model, config):
        print(f"     {self._folder}: {config}")
        for length in LENGTHS:
            self._near(f"logits.{length}", model.forward(self._goldens[f"input_ids.{length}"]))

    def _check_layers(self, model, length):
        trace = Trace()
        model.forward(self._goldens[f"input_ids.{length}"], trace)
        for layer in range(len(trace.streams)):
            prefix = f"hidden.{length}.layers.{layer}"
            rows = slice(-len(self._goldens[f"{prefix}.out"]), None)
            self._near(f"{prefix}.out", trace.streams[layer], rows)
            self._near(f"{prefix}.attn_out", trace.attn_out[layer], rows)
            self._near(f"{prefix}.mlp_out", trace.ffn_out[layer], rows)
            self._near(f"{prefix}.expert_weights", trace.expert_weights[layer], rows)
            self._equal(f"{prefix}.expert_ids", trace.expert_ids[layer][rows])
            if trace.picks[layer] is not None:
                self._equal(f"{prefix}.index_picks", np.sort(trace.picks[layer][rows], axis=1))

    def _check_greedy(self, model, length):
        ids = list(self._goldens[f"input_ids.{length}"])
        expected = self._goldens[f"greedy.{length}.tokens"]
        logits = model.forward(ids + list(expected[:-1]))[length - 1 :]
        self._near(f"greedy.{length}.logits", logits)
        self._equal(f"greedy.{length}.tokens", logits.argmax(axis=1))

    def _check_quantized_distance(self):
        with open(os.path.join(self._folder, "meta.json"), encoding="utf-8") as f:
            recorded = json.load(f)["reference_quantized_activations"]
        cfg = Config.load(os.path.join(self._folder, "config.json"))
        numerics = Numerics(
            round_results=False, quantize_linear_input=False, quantize_kv=True, quantize_indexer=True
        )
        model = Model(Checkpoint(self._weights), cfg, numerics)
        published = load_model(self._weights, "fp8")
        for length in LENGTHS:
            expected = recorded[f"full {length} rel"]
            distance = self._distance(model, length)
            ok = abs(distance - expected) <= QUANTIZED_DISTANCE_TOLERANCE * expected
            fp8_mode = self._distance(published, length)
            self._report(
                ok,
                f"quantised activations, length {length}: relative distance {distance:.4f},"
                f" recorded {expected:.4f}; fp8 mode {fp8_mode:.4f}",
            )

    def _distance(self, model, length):
        logits, golden = model.forward(self._goldens[f"input_ids.{length}"]), self._goldens[f"logits.{length}"]
        return np.linalg.norm(logits - golden) / np.linalg.norm(golden)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    results = [Checker(folder).run() for folder in parser.parse_args().folders]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
