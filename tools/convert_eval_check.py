#!/usr/bin/env python3
"""Scores conversions of models/tiny on its evaluation set. Usage: convert_eval_check.py VEXIL

BF16, INT8 experts, FP8 experts and rank files for one rank must be within two points of the original."""
import json
import os
import subprocess
import sys
import tempfile

from eval_check import FLOORS, ROOT

TINY = os.path.join(ROOT, "models/tiny")


def convert(vexil, mode, source, output):
    subprocess.run([vexil, "convert", *mode, "--ckpt-path", source, "--output", output], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return output


def scores(vexil, checkpoint):
    command = [vexil, "eval", "--ckpt-path", checkpoint, "--suite", os.path.join(TINY, "eval.jsonl"), "--json"]
    return {kind: v["share"] for kind, v in json.loads(subprocess.check_output(command))["kinds"].items()}


def main():
    vexil, wrong = sys.argv[1], []
    with tempfile.TemporaryDirectory(prefix="vexil_eval_") as work:
        bf16 = convert(vexil, ["dequantize"], TINY, os.path.join(work, "bf16"))
        variants = {
            "bf16": bf16,
            "int8 experts": convert(vexil, ["quantize", "--experts", "int8"], bf16, os.path.join(work, "int8")),
            "fp8 experts": convert(vexil, ["quantize", "--experts", "fp8"], bf16, os.path.join(work, "fp8")),
            "mp1": convert(vexil, ["shard", "--model-parallel", "1"], TINY, os.path.join(work, "mp1")),
        }
        original = scores(vexil, TINY)
        print("original", original)
        for name, checkpoint in variants.items():
            found = scores(vexil, checkpoint)
            print(name, found)
            wrong += [f"{name}: {kind} {found[kind]:.3f}, expected within 0.02 of {original[kind]:.3f}" for kind in FLOORS
                      if abs(found[kind] - original[kind]) > 0.02]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
