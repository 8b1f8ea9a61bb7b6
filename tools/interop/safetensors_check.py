#!/usr/bin/env python3
"""Checkpoints that vexil writes, read with the Python library `safetensors`. Usage: safetensors_check.py VEXIL

Every tensor of a made, a made-as-BF16 and a dequantised checkpoint must come out with the dtype and shape of the file's
header and the bytes at its offsets, and the index must name the right file.
"""
import json
import os
import subprocess
import sys
import tempfile

import packages

packages.require("safetensors", "torch", "numpy")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402

TORCH_DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I8": torch.int8,
    "I32": torch.int32,
    "I64": torch.int64,
}


def header_of(path):
    """(entries without metadata, offset of the data)."""
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        entries = json.loads(f.read(length))
    entries.pop("__metadata__", None)
    return entries, 8 + length


def check_file(path):
    """The names in the file."""
    entries, data = header_of(path)
    raw = np.memmap(path, np.uint8, "r")
    with safe_open(path, framework="pt") as f:
        if set(f.keys()) != set(entries):
            raise ValueError(f"{path}: the library sees other names than the header has")
        for name, entry in entries.items():
            tensor = f.get_tensor(name)
            begin, end = entry["data_offsets"]
            if tensor.dtype != TORCH_DTYPES[entry["dtype"]] or list(tensor.shape) != entry["shape"]:
                raise ValueError(f"{path}: {name}: found {tensor.dtype} {list(tensor.shape)}, expected {entry}")
            found = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
            if not np.array_equal(found, raw[data + begin : data + end]):
                raise ValueError(f"{path}: {name}: other bytes than in the file")
    return entries


def check_folder(folder):
    with open(os.path.join(folder, "model.safetensors.index.json"), encoding="utf-8") as f:
        index = json.load(f)
    places = index["weight_map"]
    count = 0
    for file in sorted(set(places.values())):
        names = check_file(os.path.join(folder, file))
        wrong = [n for n in names if places.get(n) != file]
        if wrong:
            raise ValueError(f"{folder}: the index misplaces {wrong[0]}")
        count += len(names)
    if count != len(places) or count == 0:
        raise ValueError(f"{folder}: {count} tensors in the files, {len(places)} in the index")
    print(f"{os.path.basename(folder)}: {len(set(places.values()))} files, {count} tensors")


def main():
    vexil = sys.argv[1]
    tiny = os.path.join(packages.ROOT, "models", "tiny")
    with tempfile.TemporaryDirectory() as work:
        make = [vexil, "make-checkpoint", "--config", os.path.join(tiny, "config.json"), "--max-shard-size", "2MB"]
        for name, command in {
            "made": make,
            "made-bf16": [*make, "--dtype-plan", "bf16"],
            "dequantized": [vexil, "convert", "dequantize", "--ckpt-path", tiny],
        }.items():
            folder = os.path.join(work, name)
            subprocess.run([*command, "--output", folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            check_folder(folder)


if __name__ == "__main__":
    main()
