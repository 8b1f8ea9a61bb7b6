#!/usr/bin/env python3
"""Joins the JSON lines of the GPU peers and of vexil in a work folder (gpu.sh): a table, and gpu.json beside it.

The peers ran all layers. vexil's time is a straight line through the two numbers of layers that ran, or the whole model's
where that ran."""
import argparse
import collections
import glob
import json
import os

GOALS = {("decode", "flagos"): 50, ("decode", "transformers"): 25,  # times as fast, at batch 1
         ("prefill", "flagos"): 5, ("prefill", "transformers"): 5}


def rows(paths):
    found = []
    for path in sorted(paths):
        with open(path) as f:
            found += [json.loads(line) for line in f if line.startswith("{")]
    return found


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


def compare(folder, layers):
    ours = vexil_seconds(rows(glob.glob(f"{folder}/vexil_*.jsonl")), layers)
    theirs = rows(glob.glob(f"{folder}/peer_*.jsonl"))
    result = []
    for r in theirs:
        if r["what"] == "about":
            continue
        step = r["what"], r["context"]
        row = {**r, "goal": GOALS.get((r["what"], r["peer"].split("+")[0]))}
        if step in ours:
            row["ours_s"], row["ours_how"] = ours[step]
            if "seconds" in r:
                row["ours_over_theirs"] = row["ours_s"] / r["seconds"]
        result.append(row)
    result.sort(key=lambda r: (r["what"], r["context"], r["peer"], r.get("chunk", 0)))
    return {"layers": layers, "about": [r for r in theirs if r["what"] == "about"], "rows": result}


def milliseconds(seconds):
    return "-" if seconds is None else f"{1e3 * seconds:.2f}"


def notes_of(row):
    notes = [f"{key} {row[key]}" for key in ("chunk", "experts", "failed") if row.get(key)]
    if "seconds" in row:
        notes.append(f"theirs {milliseconds(row['fastest'])} to {milliseconds(row['slowest'])}")
    if "ours_how" in row:
        notes.append(f"ours {row['ours_how']}")
    return "; ".join(notes)


def show(report):
    for about in report["about"]:
        print(", ".join(f"{key} {value}" for key, value in about.items() if key != "what"))
    print(f"\n{report['layers']} layers, batch 1, ms")
    print(f"{'step':8} {'tokens':>6} {'peer':14} {'theirs':>10} {'ours':>9} {'ours/theirs':>11} {'faster':>7} {'goal':>5}  notes")
    for r in report["rows"]:
        ratio = r.get("ours_over_theirs")
        cells = [f"{ratio:.4f}", f"{1 / ratio:.1f}x"] if ratio else ["-", "-"]
        cells.append(f"{r['goal']}x" if r["goal"] else "-")
        times = f"{milliseconds(r.get('seconds')):>10} {milliseconds(r.get('ours_s')):>9}"
        print(f"{r['what']:8} {r['context']:>6} {r['peer']:14} {times} {cells[0]:>11} {cells[1]:>7} {cells[2]:>5}  {notes_of(r)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--config", required=True)
    args = parser.parse_args()
    with open(args.config) as f:
        config = json.load(f)
    report = compare(args.folder, config["num_hidden_layers"])
    with open(os.path.join(args.folder, "gpu.json"), "w") as f:
        json.dump(report, f, indent=1)
    show(report)


if __name__ == "__main__":
    main()
