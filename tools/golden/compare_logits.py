#!/usr/bin/python3
"""Compares two results of the same token sequences: v4_reference.py's and another implementation's.

Both are safetensors files with `logits.I` [len, vocab] f32 and optionally `hidden.I.L` [len, streams, dim] f32. Over
all positions of all sequences: relative L2 distance of the logits, agreement of the argmax, and for every layer the
share of positions whose streams are equal bit for bit. Two correct implementations with all roundings on differ, since
the order of sums decides single roundings; judge by the median and the first layers.
Exit status 1 when a bound is missed, 2 when the files cannot be compared.
"""
import argparse
import json
import sys

import numpy as np

import safetensors_np


def compare(reference, got):
    """Figures of two safetensors_np.File objects as a plain dictionary."""
    names = sorted(n for n in reference.names() if n.startswith("logits."))
    if not names:
        raise ValueError(f"{reference.path}: no tensor 'logits.0'")
    distances, agreements = [], []
    for name in names:
        a, b = _pair(reference, got, name)
        distances.append(relative_l2(a, b))
        agreements.append(a.argmax(axis=1) == b.argmax(axis=1))
    distances, agreements = np.concatenate(distances), np.concatenate(agreements)
    return {
        "sequences": len(names),
        "positions": len(distances),
        "median": float(np.median(distances)),
        "p90": float(np.quantile(distances, 0.9)),
        "p99": float(np.quantile(distances, 0.99)),
        "max": float(distances.max()),
        "argmax": float(agreements.mean()),
        "layers_equal": _layers_equal(reference, got),
    }


def relative_l2(reference, got):
    """|got - reference| / |reference| of every row; infinite where `got` is not finite."""
    reference, got = reference.astype(np.float64), got.astype(np.float64)
    ratio = np.linalg.norm(got - reference, axis=1) / np.linalg.norm(reference, axis=1)
    return np.where(np.isfinite(ratio), ratio, np.inf)


def _layers_equal(reference, got):
    """Per layer: the share of positions with bit-equal streams; empty unless both files hold streams."""
    names = [n for n in reference.names() if n.startswith("hidden.")]
    if not any(n.startswith("hidden.") for n in got.names()):
        return []
    equal = {}
    for name in names:
        a, b = _pair(reference, got, name)
        same = (a.view(np.uint32) == b.view(np.uint32)).reshape(len(a), -1).all(axis=1)
        equal.setdefault(int(name.split(".")[2]), []).append(same)
    return [float(np.concatenate(equal[layer]).mean()) for layer in sorted(equal)]


def _pair(reference, got, name):
    if name not in got:
        raise ValueError(f"{got.path}: tensor '{name}' is missing")
    a, b = reference.read(name), got.read(name)
    if (a.dtype, b.dtype) != ("F32", "F32") or a.shape != b.shape:
        raise ValueError(f"tensor '{name}': {a.dtype} {list(a.shape)} against {b.dtype} {list(b.shape)}")
    return a.data, b.data


def missed_bounds(figures, args):
    """One line for every bound that is not met."""
    layer0 = figures["layers_equal"][0] if figures["layers_equal"] else 0.0
    bounds = (
        ("median relative L2", figures["median"], args.max_median, -1),
        ("90 % relative L2", figures["p90"], args.max_p90, -1),
        ("argmax agreement", figures["argmax"], args.min_argmax, 1),
        ("positions with equal layer-0 streams", layer0, args.min_layer0, 1),
    )
    return [
        f"{name} {value:.4g}, must be at {'least' if sign > 0 else 'most'} {bound:g}"
        for name, value, bound, sign in bounds
        if bound is not None and not sign * value >= sign * bound
    ]


def print_table(figures):
    print(f"{figures['sequences']} sequences, {figures['positions']} positions")
    quantiles = ", ".join(f"{k} {figures[k]:.3g}" for k in ("median", "p90", "p99", "max"))
    print(f"relative L2 of the logits: {quantiles}")
    print(f"same argmax: {figures['argmax']:.2%}")
    if figures["layers_equal"]:
        print("bit-equal streams after each layer: " + " ".join(f"{e:.1%}" for e in figures["layers_equal"]))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", metavar="REF.safetensors")
    parser.add_argument("got", metavar="GOT.safetensors")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--max-median", type=float)
    parser.add_argument("--max-p90", type=float)
    parser.add_argument("--min-argmax", type=float, help="share of positions, 0 to 1")
    parser.add_argument("--min-layer0", type=float, help="share of positions, 0 to 1")
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        figures = compare(safetensors_np.File(args.reference), safetensors_np.File(args.got))
    except (OSError, ValueError) as error:
        print(f"compare_logits.py: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        print_table(figures)
    missed = missed_bounds(figures, args)
    for line in missed:
        print(f"compare_logits.py: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
