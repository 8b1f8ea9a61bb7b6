#!/usr/bin/python3
"""Compares `vexil logits` with the NumPy model on random small models, one per seed.

Every seed draws a configuration (random_model.py), weights and how they are stored, the dialects of names and
configuration, token lists whose lengths lie around the window and the block lengths, a chunk size and a thread count.
In f32 mode logits, streams, experts and picks must agree at every position before the first one where a choice of experts or entries
is nearly a tie. In fp8 and bf16 mode most streams behind the first layer must agree bit for bit.

Usage: random_check.py VEXIL [--seeds FIRST:LAST] [--longest N]. Exit status 1 when a seed fails.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

import random_model  # noqa: E402
import safetensors_np  # noqa: E402
from v4_model import Trace  # noqa: E402
from v4_reference import load_model  # noqa: E402
from v4_weights import transformers_name  # noqa: E402

MAX_ERROR = 1e-4  # of the largest magnitude at a position (f32)
NEAR_TIE = 2e-5  # f32 arithmetic may decide a choice as close as this otherwise
# Behind layer 0, in fp8 and bf16 mode. One flipped bit of a KV row reaches every later position that sees the row, and
# every sequence with that token: the share of equal positions says something in short lists only.
MIN_EQUAL_STREAMS = 0.35  # share of the positions of short lists; a missing rounding leaves a fifth at most
MAX_DISTANCE = 2**-8  # median relative L2 over all positions: every value next to the right one would be that
SHORT_LISTS, SHORT = 24, 12  # tokens at most
# By storage. INT8 weights are rounded to BF16 in the other modes, which the NumPy model does not do.
MODES = {"plain": ["f32", "f32", "bf16"], "f32": ["f32"], "quantized": ["f32", "fp8", "fp8", "bf16"],
         "fp8": ["f32", "fp8", "bf16"], "int8": ["f32"]}  # fmt: skip
TOKENIZER = {
    "version": "1.0",
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
}  # fmt: skip


class Case:
    """What a seed stands for; `describe` is enough to see what a failure is about."""

    def __init__(self, seed, longest):
        rng = np.random.default_rng(seed)
        self.config = random_model.random_config(rng)
        self.storage = str(rng.choice(random_model.STORAGES))
        self.mode = str(rng.choice(MODES[self.storage]))
        self.tensors = random_model.Weights(self.config, rng, self.storage).draw()
        self.names = str(rng.choice(["published", "converted", "transformers", "gguf"]))
        if self.names in ("transformers", "gguf") and self.storage not in ("plain", "f32"):
            self.names = "converted"
        self.files = int(rng.choice([1, 2, 3, 7])) if self.names in ("published", "transformers") else 1
        dialects = {"published": self.config, "inference": random_model.inference_config(self.config),
                    "transformers": random_model.transformers_config(self.config)}  # fmt: skip
        self.dialect = str(rng.choice([name for name, config in dialects.items() if config is not None]))
        self.dialect_config = dialects[self.dialect]
        self.chunk, self.threads = int(rng.choice([1, 7, 64, 512])), int(rng.integers(1, 3))
        self.tokens = [rng.integers(0, self.config["vocab_size"], n).tolist() for n in self._lengths(rng, longest)]

    def _lengths(self, rng, longest):
        edges = {1, 2, 3, 127, 128, 129, 255, 256, 257} | {self.config["sliding_window"] + d for d in (-1, 0, 1, 8, 9)}
        for ratio in self.config["compress_ratios"]:
            edges |= {ratio - 1, ratio, ratio + 1, 2 * ratio}
        allowed = sorted(n for n in edges if 1 <= n <= longest)
        lengths = [int(n) for n in rng.choice(allowed, 3)] + [int(rng.integers(1, longest + 1))]
        short = [] if self.mode == "f32" else rng.integers(1, SHORT + 1, SHORT_LISTS).tolist()
        return lengths + short

    def describe(self):
        return (f"{self.mode}, {self.storage} weights, {self.names} names in {self.files} files, {self.dialect} configuration, chunks of "
                f"{self.chunk}, {self.threads} threads, lengths {[len(t) for t in self.tokens[:4]]}, "
                f"ratios {self.config['compress_ratios']}")  # fmt: skip

    def write(self, folder):
        """Two checkpoints, for the NumPy model and for vexil."""
        for name in ("reference", "vexil"):
            os.mkdir(os.path.join(folder, name))
        safetensors_np.save(os.path.join(folder, "reference/model.safetensors"), self.tensors)
        write_json(os.path.join(folder, "reference/config.json"), self.config)
        write_json(os.path.join(folder, "vexil/config.json"), self.dialect_config)
        write_json(os.path.join(folder, "tokens.json"), self.tokens)
        if self.names == "gguf":  # a file of that format holds a tokenizer
            write_json(os.path.join(folder, "vexil/tokenizer.json"), TOKENIZER)
        self._write_checkpoint(os.path.join(folder, "vexil"))

    def _write_checkpoint(self, folder):
        file, tensors = "model.safetensors", self.tensors
        if self.names == "transformers":
            tensors = random_model.under_transformers_names(self.tensors, self.config, transformers_name)
        elif self.names == "converted":
            file = "model0-mp1.safetensors"
            tensors = random_model.converted(self.tensors) if self.storage == "quantized" else self.tensors
        if self.files > 1:
            return write_shards(folder, tensors, self.files)
        return safetensors_np.save(os.path.join(folder, file), tensors)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f)


def write_shards(folder, tensors, count):
    names = list(tensors)
    weight_map = {}
    for number in range(1, count + 1):
        part = names[number - 1 :: count]
        file = f"model-{number:05}-of-{count:05}.safetensors"
        safetensors_np.save(os.path.join(folder, file), {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    write_json(os.path.join(folder, "model.safetensors.index.json"), {"weight_map": weight_map})


def run_vexil(vexil, case, folder):
    output = os.path.join(folder, "out.safetensors")
    checkpoint = os.path.join(folder, "vexil")
    if case.names == "gguf":  # written by the program itself
        weights = {"plain": "bf16", "f32": "f32"}[case.storage]
        checkpoint = os.path.join(folder, "gguf")
        subprocess.run([vexil, "convert", "gguf", "--ckpt-path", os.path.join(folder, "vexil"), "--experts", weights,
                        "--weights", weights, "--output", checkpoint], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)  # fmt: skip
    subprocess.run(
        [vexil, "logits", "--ckpt-path", checkpoint, "--tokens", os.path.join(folder, "tokens.json"),
         "--data-format", case.mode, "--chunk", str(case.chunk), "--threads", str(case.threads), "--hidden",
         "--choices", "--output", output], check=True)  # fmt: skip
    return safetensors_np.File(output)


def relative_error(want, got):
    """Of every position: the largest difference over the largest magnitude, which counts as at least 1."""
    want, got = want.reshape(len(want), -1), got.reshape(len(got), -1)
    error = np.abs(got - want).max(axis=1) / np.maximum(np.abs(want).max(axis=1), 1.0)
    return np.where(np.isfinite(error), error, np.inf)


def same_choices(index, trace, got, end):
    """Whether experts and picks, as sets, are the same at the positions before `end`."""
    pairs = [(ids, got.read(f"experts.{index}.{layer}").data) for layer, ids in enumerate(trace.expert_ids)]
    for layer, picks in enumerate(trace.picks):
        if picks is not None:
            pairs.append((picks, got.read(f"picks.{index}.{layer}").data))
    return all((np.sort(a[:end], axis=1) == np.sort(b[:end], axis=1)).all() for a, b in pairs)


def compare_f32(index, want, trace, got):
    """(largest error, positions compared): those before the first near tie. Other choices are an infinite error."""
    margin = np.min(trace.margins, axis=0)
    ties = np.flatnonzero(margin < NEAR_TIE)
    end = ties[0] if len(ties) else len(want)
    if end == 0:
        return 0.0, 0
    if not same_choices(index, trace, got, end):
        return np.inf, end
    errors = [relative_error(want, got.read(f"logits.{index}").decode())[:end].max()]
    for layer, streams in enumerate(trace.streams):
        errors.append(relative_error(streams, got.read(f"hidden.{index}.{layer}").decode())[:end].max())
    return max(errors), end


def compare_streams(index, trace, got):
    """The relative distance of the streams behind layer 0 at every position: 0 where they are the same numbers."""
    want = trace.streams[0].reshape(len(trace.streams[0]), -1)
    streams = got.read(f"hidden.{index}.0").decode().reshape(want.shape)
    return np.linalg.norm(streams - want, axis=1) / np.maximum(np.linalg.norm(want, axis=1), 1e-30)


def check(vexil, case):
    """(passed, what was seen)"""
    with tempfile.TemporaryDirectory() as folder:
        case.write(folder)
        got = run_vexil(vexil, case, folder)
        model = load_model(os.path.join(folder, "reference"), case.mode)
        worst, compared, distances = 0.0, 0, []
        for index, tokens in enumerate(case.tokens):
            trace = Trace()
            want = model.forward(tokens, trace)
            if case.mode != "f32":
                distances.append(compare_streams(index, trace, got))
            else:
                error, count = compare_f32(index, want, trace, got)
                worst, compared = max(worst, error), compared + count
    if case.mode != "f32":
        share = float((np.concatenate([d for d in distances if len(d) <= SHORT]) == 0).mean())
        median = float(np.median(np.concatenate(distances)))
        seen = f"behind layer 0 {share:.1%} of the streams in short lists equal, median distance {median:.1e}"
        return share >= MIN_EQUAL_STREAMS and median <= MAX_DISTANCE, seen
    return worst <= MAX_ERROR, f"largest error {worst:.1e} over {compared} positions"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vexil")
    parser.add_argument("--seeds", default="0:24", help="FIRST:LAST, LAST not included")
    parser.add_argument("--longest", type=int, default=300, help="tokens of a list at most")
    args = parser.parse_args()
    failures = 0
    for seed in range(*map(int, args.seeds.split(":"))):
        case = Case(seed, args.longest)
        try:
            passed, seen = check(args.vexil, case)
        except subprocess.CalledProcessError as error:
            passed, seen = False, f"exit status {error.returncode}"
        failures += not passed
        print(f"{'ok  ' if passed else 'FAIL'} seed {seed}: {seen} ({case.describe()})", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
