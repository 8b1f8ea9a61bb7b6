#!/usr/bin/python3
"""Checks f32 mode at V4-Flash's own widths: rebuilds the golden model's weights (3.2 GB) by the rule in
testdata/golden/README.md, runs `vexil logits` and compares. Usage: wide_check.py VEXIL [--scratch DIR]"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

import safetensors_np

HERE = os.path.dirname(os.path.abspath(__file__))
WIDE = os.path.join(HERE, "../../testdata/golden/wide")
MAX_RELATIVE_L2 = 1e-3
SEED, GOLDEN_RATIO = 11, 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
CHUNK = 1 << 22

D, H, DH, RQ, G, RO, F, E, V, HI, DI, STREAMS = 4096, 64, 512, 1024, 8, 1024, 2048, 16, 1024, 64, 128, 4
SHAPES = [  # the first pattern that ends the name
    (r"embed_tokens\.weight|lm_head\.weight", (V, D)),
    (r"hc_head\.hc_fn", (STREAMS, STREAMS * D)), (r"hc_head\.hc_base", (STREAMS,)), (r"hc_head\.hc_scale", (1,)),
    (r"_hc\.fn", ((2 + STREAMS) * STREAMS, STREAMS * D)), (r"_hc\.base", ((2 + STREAMS) * STREAMS,)), (r"_hc\.scale", (3,)),
    (r"sinks", (H,)), (r"q_a_proj\.weight", (RQ, D)), (r"q_a_norm\.weight", (RQ,)),
    (r"indexer\.q_b_proj\.weight", (HI * DI, RQ)), (r"q_b_proj\.weight", (H * DH, RQ)),
    (r"indexer\.(kv|gate)_proj\.weight", (2 * DI, D)), (r"indexer\.position_bias", (4, 2 * DI)),
    (r"indexer\.kv_norm\.weight", (DI,)), (r"weights_proj\.weight", (HI, D)),
    (r"self_attn\.kv_proj\.weight", (DH, D)), (r"kv_norm\.weight", (DH,)),
    (r"o_a_proj\.weight", (G * RO, H * DH // G)), (r"o_b_proj\.weight", (D, G * RO)),
    (r"mlp\.gate\.weight", (E, D)), (r"e_score_correction_bias", (E,)), (r"tid2eid", (V, 6)),
    (r"experts\.gate_up_proj", (E, 2 * F, D)), (r"experts\.down_proj", (E, D, F)),
    (r"shared_experts\.(gate|up)_proj\.weight", (F, D)), (r"shared_experts\.down_proj\.weight", (D, F)),
    (r"norm\.weight|layernorm\.weight", (D,)),
]


def shape_of(name, config):
    layer = re.search(r"layers\.(\d+)\.", name)
    if ".compressor." in name and "indexer" not in name:
        overlap = config["layer_types"][int(layer[1])] == "compressed_sparse_attention"
        width = 2 * DH if overlap else DH
        if name.endswith("position_bias"):
            return (4 if overlap else 128, width)
        if re.search(r"(kv|gate)_proj\.weight$", name):
            return (width, D)
    return next(shape for pattern, shape in SHAPES if re.search(f"({pattern})$", name))


def hashes(name, begin, end):
    offset = 0xCBF29CE484222325
    for byte in name.encode():
        offset = ((offset ^ byte) * 0x100000001B3) & MASK
    z = np.arange(begin + 1, end + 1, dtype=np.uint64)
    z *= np.uint64(GOLDEN_RATIO)
    z += np.uint64((offset + SEED * GOLDEN_RATIO) & MASK)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def distribution(name, shape):
    """(offset, amplitude) of a tensor's values."""
    if "norm" in name.split(".")[-2]:
        return 1.0, 0.125
    for suffix, off, amp in (("scale", 1.0, 0.25), ("sinks", 0.0, 2.0), ("position_bias", 0.0, 1.0), ("base", 0.0, 1.0),
                             ("e_score_correction_bias", 0.0, 0.125), ("embed_tokens.weight", 0.0, 1.75),
                             ("lm_head.weight", 0.0, 0.0625)):
        if name.endswith(suffix):
            return off, amp
    return 0.0, float(np.float32(np.sqrt(3 / shape[-1])))


def values(name, shape, begin, end):
    """BF16 bits of elements [begin, end)."""
    off, amp = distribution(name, shape)
    u = (hashes(name, begin, end) >> np.uint64(40)).astype(np.float64) / 8388608 - 1
    bits = ((u * amp).astype(np.float32) + np.float32(off)).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def expert_table(name):
    h = hashes(name, 0, V)
    base, step = h % np.uint64(E), np.uint64(1) + np.uint64(2) * ((h >> np.uint64(32)) % np.uint64(8))
    return ((base[:, None] + np.arange(6, dtype=np.uint64) * step[:, None]) % np.uint64(E)).astype(np.int64)


def write_checkpoint(path, names, config, checksums):
    header, offset = {}, 0
    for name in names:
        shape, wide = shape_of(name, config), name.endswith("tid2eid")
        end = offset + int(np.prod(shape)) * (8 if wide else 2)
        header[name] = {"dtype": "I64" if wide else "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as f:
        f.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in names:
            shape, total = shape_of(name, config), 0.0
            if name.endswith("tid2eid"):
                table = expert_table(name)
                f.write(table.tobytes())
                total = float(table.sum())
            for begin in [] if name.endswith("tid2eid") else range(0, int(np.prod(shape)), CHUNK):
                part = values(name, shape, begin, min(begin + CHUNK, int(np.prod(shape))))
                f.write(part.tobytes())
                total += float((part.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64).sum())
            if abs(total - checksums[name]) > 1e-6 * max(1.0, abs(total)):
                sys.exit(f"{name}: sum {total}, expected {checksums[name]}: the rule is not reproduced")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vexil")
    parser.add_argument("--scratch", help="folder with 4 GB of room (default: the system's)")
    args = parser.parse_args()
    with open(os.path.join(WIDE, "meta.json")) as f:
        checksums = json.load(f)["checksums"]
    with open(os.path.join(WIDE, "config.json")) as f:
        config = json.load(f)
    golden = safetensors_np.File(os.path.join(WIDE, "golden.safetensors"))
    ids = golden.read("input_ids").data
    with tempfile.TemporaryDirectory(dir=args.scratch) as work:
        names = sorted(checksums, key=lambda name: not name.endswith("tid2eid"))
        model = os.path.join(work, "model.safetensors")
        write_checkpoint(model, names, config, checksums)
        with open(os.path.join(work, "tokens.json"), "w") as f:
            json.dump([ids.tolist()], f)
        subprocess.check_call([args.vexil, "logits", "--ckpt-path", model, "--config", os.path.join(WIDE, "config.json"),
                               "--data-format", "f32", "--tokens", f.name, "--output", os.path.join(work, "out.safetensors")])
        got = safetensors_np.File(os.path.join(work, "out.safetensors")).read("logits.0").decode()
    wrong = 0
    decoded = np.arange(2199, 2208)
    for what, positions in (("logits", golden.read("positions").data), ("decode_logits", decoded)):
        want = golden.read(what).decode()
        error = np.linalg.norm(got[positions] - want, axis=1) / np.linalg.norm(want, axis=1)
        print(f"{what}: relative L2 median {np.median(error):.2e}, largest {error.max():.2e} over {len(error)} positions")
        wrong += not error.max() <= MAX_RELATIVE_L2
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
