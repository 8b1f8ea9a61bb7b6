#!/usr/bin/env python3
"""Runs `vexil eval` on models/tiny, and on it converted to GGUF, and checks the scores. Usage: eval_check.py VEXIL"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = os.path.join(ROOT, "models/tiny")
FLOORS = {"arithmetic": 0.91, "capital": 1.0, "lists": 0.98, "tools": 0.99, "identity": 1.0}


def scores(vexil, data_format, checkpoint=TINY):
    command = [vexil, "eval", "--ckpt-path", checkpoint, "--suite", os.path.join(TINY, "eval.jsonl"), "--data-format",
               data_format, "--json"]
    return {kind: v["share"] for kind, v in json.loads(subprocess.check_output(command))["kinds"].items()}


def main():
    vexil = sys.argv[1]
    fp8 = scores(vexil, "fp8")
    print("fp8", fp8)
    wrong = [f"fp8 {kind}: {fp8[kind]:.3f}, expected at least {floor}" for kind, floor in FLOORS.items() if fp8[kind] < floor]
    for data_format in ("bf16", "f32"):
        other = scores(vexil, data_format)
        print(data_format, other)
        for kind in FLOORS:
            if abs(other[kind] - fp8[kind]) > 0.0101:
                wrong.append(f"{data_format} {kind}: {other[kind]:.3f}, expected within one point of fp8 {fp8[kind]:.3f}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.check_call([vexil, "convert", "gguf", "--ckpt-path", TINY, "--output", folder, "--experts", "mxfp4"])
        gguf = scores(vexil, "fp8", os.path.join(folder, "model.gguf"))
    print("gguf", gguf)
    for kind in FLOORS:
        if gguf[kind] < fp8[kind] - 0.02:
            wrong.append(f"MXFP4 GGUF {kind}: {gguf[kind]:.3f}, expected within two points of {fp8[kind]:.3f}")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
