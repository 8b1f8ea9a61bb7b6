#!/usr/bin/env python3
"""Joins the JSON lines of the GPU peers and of vexil in a work folder (gpu.sh): a table, and gpu.json beside it.

All times are of the whole model. A peer's: base + what each layer adds to base, as often as the model has its kind.
vexil's: a straight line through the two numbers of layers that ran, or the whole model where it ran."""
import argparse
import collections
import glob
import json
import os

KINDS = {0: "window", 4: "ratio 4", 128: "ratio 128"}  # as in gpu_peer.py, which needs PyTorch
GOALS = {("decode", "flagos"): 50, ("decode", "transformers"): 25,  # times as fast, at batch 1
         ("prefill", "flagos"): 5, ("prefill", "transformers"): 5}


def rows(paths):
    found = []
    for path in sorted(paths):
        with open(path) as f:
            found += [json.loads(line) for line in f if line.startswith("{")]
    return found


def peer_seconds(group, counts):
    """The whole model from the rows of one step; None if a kind is missing."""
    seconds = {r["kind"]: r["seconds"] for r in group if "seconds" in r}
    if not {"base", *counts} <= set(seconds):
        return None
    return seconds["base"] + sum(n * (seconds[kind] - seconds["base"]) for kind, n in counts.items())


def vexil_seconds(found, layers):
    """(what, context) -> (seconds, how)"""
    steps = collections.defaultdict(dict)
    for r in found:
        if "seconds" in r and r["batch"] == 1:
            steps[r["what"], r["context"]][r["layers"]] = r["seconds"]
    result = {}
    for step, by_layers in steps.items():
        few, many = min(by_layers), max(by_layers)
        if layers in by_layers:
            result[step] = by_layers[layers], "run"
        elif few < many:
            slope = (by_layers[many] - by_layers[few]) / (many - few)
            result[step] = by_layers[many] + (layers - many) * slope, f"from {few} and {many} layers"
    return result


def compare(folder, counts):
    layers = sum(counts.values())
    ours = vexil_seconds(rows(glob.glob(f"{folder}/vexil_*.jsonl")), layers)
    theirs = rows(glob.glob(f"{folder}/peer_*.jsonl"))
    steps = collections.defaultdict(list)
    for r in theirs:
        if r["what"] != "about":
            steps[r["what"], r["context"], r["peer"], r.get("chunk")].append(r)
    result = []
    for (what, context, peer, chunk), group in sorted(steps.items(), key=str):
        seconds = peer_seconds(group, counts)
        goal = GOALS.get((what, peer.split("+")[0]))
        row = {"what": what, "context": context, "peer": peer, "theirs_s": seconds, "goal": goal}
        row.update({key: group[0][key] for key in ("chunk", "experts") if key in group[0]})
        row.update({f"theirs_{r['kind']}_s": r["seconds"] for r in group if "seconds" in r})
        if failed := [r for r in group if "failed" in r]:
            row["failed"] = f"{failed[0]['kind']}: {failed[0]['failed']}"
        if (what, context) in ours:
            row["ours_s"], row["ours_how"] = ours[what, context]
            if seconds:
                row["ours_over_theirs"] = row["ours_s"] / seconds
        result.append(row)
    return {"layers": counts, "about": [r for r in theirs if r["what"] == "about"], "rows": result}


def milliseconds(seconds):
    return "-" if seconds is None else f"{1e3 * seconds:.2f}"


def notes_of(row):
    notes = [f"{key} {row[key]}" for key in ("chunk", "experts", "failed") if row.get(key)]
    if "theirs_whole_s" in row:
        notes.append(f"run with all layers (weights of three): {milliseconds(row['theirs_whole_s'])}")
    if "ours_how" in row:
        notes.append(f"ours {row['ours_how']}")
    return "; ".join(notes)


def show(report):
    for about in report["about"]:
        print(", ".join(f"{key} {value}" for key, value in about.items() if key != "what"))
    kinds = ", ".join(f"{n} {kind}" for kind, n in report["layers"].items())
    print(f"\n{sum(report['layers'].values())} layers ({kinds}), batch 1, ms; theirs from one layer of each kind")
    print(f"{'step':8} {'tokens':>6} {'peer':14} {'theirs':>10} {'ours':>9} {'ours/theirs':>11} {'faster':>7} {'goal':>5}  notes")
    for r in report["rows"]:
        ratio = r.get("ours_over_theirs")
        cells = [f"{ratio:.4f}", f"{1 / ratio:.1f}x"] if ratio else ["-", "-"]
        cells.append(f"{r['goal']}x" if r["goal"] else "-")
        times = f"{milliseconds(r['theirs_s']):>10} {milliseconds(r.get('ours_s')):>9}"
        print(f"{r['what']:8} {r['context']:>6} {r['peer']:14} {times} {cells[0]:>11} {cells[1]:>7} {cells[2]:>5}  {notes_of(r)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--config", required=True)
    args = parser.parse_args()
    with open(args.config) as f:
        config = json.load(f)
    kinds = [KINDS[r] for r in config["compress_ratios"][:config["num_hidden_layers"]]]
    report = compare(args.folder, dict(collections.Counter(kinds)))
    with open(os.path.join(args.folder, "gpu.json"), "w") as f:
        json.dump(report, f, indent=1)
    show(report)


if __name__ == "__main__":
    main()
