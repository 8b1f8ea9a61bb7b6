#!/usr/bin/env python3
"""Joins the rows of the peers and of vexil in a work folder (run.sh) and prints our time over theirs."""
import csv
import json
import os
import re
import sys

# Their format: ours with the activations that the official numerics multiply it with.
FORMATS = {"mxfp4": "F8_E4M3*E2M1x2", "q8_0": "F8_E4M3*F8_E4M3", "bf16": "BF16*BF16"}


def rows(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def ours(folder):
    """(op, dtype, n, k, N) -> row"""
    table = {}
    for row in rows(folder, "linear.jsonl") + rows(folder, "grouped.jsonl"):
        shape = dict(re.findall(r"(\w+)=(\d+)", row["shape"]))
        table[row["op"], row["dtype"], row["rows"], int(shape["k"]), int(shape["N"])] = row
    return table


def products(folder):
    table = ours(folder)
    for row in rows(folder, "ggml.jsonl") + rows(folder, "torch.jsonl"):
        op, dtype = row.get("op", "linear"), FORMATS[row["weight"]]
        mine = table.get((op, dtype, row["n"], row["k"], row["N"]))
        if mine:
            print(f"{row['peer']:6} {op:15} {row['weight']:6} n={row['n']:<4} {row['k']}x{row['N']:<6} theirs {row['time_us']:10.1f} us"
                  f"  ours {mine['time_us']:10.1f} us  ours/theirs {mine['time_us'] / row['time_us']:.2f}  ({mine['kernel']})")


def models(folder):
    layers = {r["layer"]: r for r in rows(folder, "vexil_layer.jsonl")}
    names = {"ratio 0": "window"}
    for row in rows(folder, "transformers.jsonl"):
        line = f"transformers {row['model']:10} decode {row['decode_us']:10.1f} us"
        mine = layers.get(names.get(row["model"], row["model"]))
        if mine:
            line += f"  ours {mine['time_us']:10.1f} us at context {mine['context']}  ours/theirs {mine['time_us'] / row['decode_us']:.2f}"
        print(line)
    path = os.path.join(folder, "vexil_tiny.csv")
    if os.path.exists(path):
        with open(path) as f:
            for row in csv.DictReader(f):
                print(f"vexil        tiny       {row['what']} {1e6 * float(row['seconds']):10.1f} us")


if __name__ == "__main__":
    products(sys.argv[1])
    models(sys.argv[1])
