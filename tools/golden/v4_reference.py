#!/usr/bin/python3
"""Computes the logits of token sequences with the NumPy model of DeepSeek-V4.

Reads a JSON list of token-id lists and writes a safetensors file: `logits.I` [len, vocab] f32 for sequence I and,
with --hidden, for layer L `hidden.I.L` [len, streams, dim] f32 (the streams after the layer), `experts.I.L` [len, k]
i32 ascending and `picks.I.L` [len, entries] i32 (the indexer's choice in its order, -1 for none).
"""
import argparse
import json
import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the order of sums must not depend on threads

import numpy as np  # noqa: E402

import safetensors_np  # noqa: E402
from v4_config import Config  # noqa: E402
from v4_model import Model, Trace  # noqa: E402
from v4_numerics import Numerics  # noqa: E402
from v4_weights import Checkpoint  # noqa: E402

ROUNDINGS = ("linear_input", "kv", "indexer")


def load_model(ckpt_path, data_format, config=None, without=(), accumulate_f32=False, clamp_shared_expert=True):
    if not os.path.exists(ckpt_path):
        raise ValueError(f"{ckpt_path}: no such checkpoint")
    folder = ckpt_path if os.path.isdir(ckpt_path) else os.path.dirname(ckpt_path)
    cfg = Config.load(config or os.path.join(folder, "config.json"))
    numerics = Numerics.of(data_format).without(without)
    numerics = numerics.with_f32_accumulation() if accumulate_f32 else numerics
    return Model(Checkpoint(ckpt_path), cfg, numerics, clamp_shared_expert)


def read_token_lists(path):
    with open(path, encoding="utf-8") as f:
        sequences = json.load(f)
    if not isinstance(sequences, list) or not all(
        isinstance(s, list) and s and all(type(t) is int for t in s) for s in sequences
    ):
        raise ValueError(f"{path}: expected a list of non-empty lists of token ids")
    return sequences


def traced_tensors(index, trace):
    tensors = {}
    for layer, streams in enumerate(trace.streams):
        tensors[f"hidden.{index}.{layer}"] = streams.astype(np.float32)
        tensors[f"experts.{index}.{layer}"] = trace.expert_ids[layer].astype(np.int32)
        if trace.picks[layer] is not None:
            tensors[f"picks.{index}.{layer}"] = trace.picks[layer].astype(np.int32)
    return tensors


def run(args):
    model = load_model(
        args.ckpt_path, args.data_format, args.config, args.without, args.accumulate == "f32",
        not args.unclamped_shared_expert,
    )
    tensors = {}
    for index, tokens in enumerate(read_token_lists(args.tokens)):
        started, trace = time.monotonic(), Trace() if args.hidden else None
        tensors[f"logits.{index}"] = model.forward(tokens, trace).astype(np.float32)
        if trace:
            tensors |= traced_tensors(index, trace)
        print(f"sequence {index}: {len(tokens)} tokens, {time.monotonic() - started:.1f} s", file=sys.stderr)
    safetensors_np.save(args.output, tensors, {"data_format": args.data_format})


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt-path", required=True, help="checkpoint folder, or one safetensors file in it")
    parser.add_argument("--config", help="default: config.json beside the checkpoint")
    parser.add_argument("--tokens", required=True, help="JSON list of token-id lists")
    parser.add_argument("--data-format", choices=("fp8", "bf16", "f32"), default="fp8")
    parser.add_argument("--output", required=True, help="safetensors file to write")
    parser.add_argument("--hidden", action="store_true", help="also write streams, experts and picks of every layer")
    parser.add_argument("--unclamped-shared-expert", action="store_true", help="as in the first published revision")
    parser.add_argument("--without", action="append", default=[], choices=ROUNDINGS, help="leave one rounding out")
    parser.add_argument("--accumulate", choices=("f64", "f32"), default="f64", help="arithmetic of matrix products")
    return parser.parse_args()


def main():
    try:
        run(parse_args())
    except (OSError, ValueError) as error:
        print(f"v4_reference.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
