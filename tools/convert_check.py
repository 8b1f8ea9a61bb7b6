#!/usr/bin/env python3
"""Kills `vexil convert` at random moments and feeds it damaged inputs and full disks.

usage: convert_check.py VEXIL [--kills N] [--seed S] [--only kills|faults]

Kills: N times each mode is killed with SIGKILL at a random moment and run again until it ends; the directory must then
equal that of an uninterrupted run, byte for byte. Faults: each must end with one line on standard error, status 2 and no
half file; the same command must succeed once the fault is gone, where there is one."""
import argparse
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = os.path.join(ROOT, "models/tiny")
MODES = {  # small files, so that there is something to keep
    "dequantize": ["dequantize", "--max-shard-size", "1MB"],
    "shard": ["shard", "--model-parallel", "4", "--o-groups", "2"],
    "quantize": ["quantize", "--experts", "int8", "--max-shard-size", "1MB"],
    "unshard": ["unshard"],
    "gguf": ["gguf"],
    "ungguf": ["ungguf", "--max-shard-size", "1MB"],
}
SOURCES = {"quantize": "dequantize", "unshard": "shard", "ungguf": "gguf"}  # whose output; of the others: tiny
ENOUGH_KILLS = 10  # so many that some must have been in time


def contents(directory):
    out = {}
    for folder, _, files in os.walk(directory):
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                out[os.path.relpath(path, directory)] = f.read()
    return out


def command(vexil, mode, source, output):
    return [vexil, "convert", *MODES[mode], "--ckpt-path", source, "--output", output]


def succeed(args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_runs(vexil, mode, source, kills, rng, work):
    want_dir, out_dir = os.path.join(work, "want"), os.path.join(work, "out")
    start = time.monotonic()
    succeed(command(vexil, mode, source, want_dir))
    whole = time.monotonic() - start
    want = contents(want_dir)
    killed = resumed = 0
    for i in range(kills):
        shutil.rmtree(out_dir, ignore_errors=True)
        for attempt in range(3):  # the third time it may finish
            process = subprocess.Popen(command(vexil, mode, source, out_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0, 1.05 * whole))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            if rng.random() < 0.6:
                break
        resumed += os.path.isdir(out_dir) and any(n.endswith((".safetensors", ".gguf")) for n in os.listdir(out_dir))
        succeed(command(vexil, mode, source, out_dir))
        got = contents(out_dir)
        if got != want:
            names = [n for n in sorted(set(got) | set(want)) if got.get(n) != want.get(n)]
            sys.exit(f"{mode}: run {i}: differs from an uninterrupted run: {names}")
    if kills >= ENOUGH_KILLS and killed == 0:
        sys.exit(f"{mode}: every process ended before it was killed")
    print(f"{mode}: {kills} runs, {killed} of their processes killed, {resumed} continued from finished files: all identical")
    shutil.rmtree(out_dir, ignore_errors=True)
    return want_dir


def expect_failure(name, args, output, text, kept=(), **popen):
    done = subprocess.run(args, capture_output=True, text=True, **popen)
    lines = [l for l in done.stderr.splitlines() if l.startswith("vexil: ")]
    problems = []
    if done.returncode != 2:
        problems.append(f"status {done.returncode}")
    if len(lines) != 1 or text not in lines[0]:
        problems.append(f"message {done.stderr!r}, expected one with {text!r}")
    left = sorted(os.listdir(output)) if os.path.isdir(output) else []
    if [n for n in left if ".tmp-" in n] or (not kept and left):
        problems.append(f"left behind {left}")
    print(f"{name}: {lines[0] if lines else done.stderr!r}")
    if problems:
        sys.exit(f"{name}: {'; '.join(problems)}")


def read_tiny():
    with open(os.path.join(TINY, "model-00001-of-00001.safetensors"), "rb") as f:
        data = f.read()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length]), data[8 + length:]


def damaged_copy(work, name, change):
    """tiny as one file with `change(header, data)` applied."""
    folder = os.path.join(work, name)
    os.mkdir(folder)
    for side in ("config.json", "tokenizer.json"):
        shutil.copy(os.path.join(TINY, side), folder)
    header, data = read_tiny()
    header, data = change(header, data)
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    return folder


def without(header, data, name):
    begin, end = header.pop(name)["data_offsets"]
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [o - (end - begin) for o in entry["data_offsets"]]
    return header, data[:begin] + data[end:]


def reshaped(header, data, name):
    header[name]["shape"] = [1, header[name]["shape"][0] * header[name]["shape"][1]]
    return header, data


def fault_runs(vexil, work):
    output = os.path.join(work, "faulty")
    fine = command(vexil, "dequantize", TINY, output)

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))

    expect_failure("full disk", fine, output, "File too large", preexec_fn=limit_files)
    succeed(fine)
    shutil.rmtree(output)

    if os.geteuid() != 0:  # root may write there
        readonly = os.path.join(work, "readonly")
        os.mkdir(readonly, 0o555)
        target = os.path.join(readonly, "out")
        expect_failure("read-only output", command(vexil, "dequantize", TINY, target), target, "Permission denied")

    foreign = os.path.join(work, "foreign")
    os.mkdir(foreign)
    with open(os.path.join(foreign, "mine.txt"), "w") as f:
        f.write("text")
    expect_failure("foreign directory", command(vexil, "dequantize", TINY, foreign), foreign, "expected an empty directory", kept=("mine.txt",))

    cut = os.path.join(work, "cut")
    shutil.copytree(TINY, cut)
    os.truncate(os.path.join(cut, "model-00001-of-00001.safetensors"), 9_000_000)
    expect_failure("truncated input", command(vexil, "dequantize", cut, output), output, "reach past the end")

    for name, change, text in (
            ("missing tensor", lambda h, d: without(h, d, "layers.3.attn.wq_a.weight"), "'layers.3.attn.wq_a.weight' is missing"),
            ("missing scale", lambda h, d: without(h, d, "layers.3.attn.wq_a.scale"), "layers.3.attn.wq_a.scale"),
            ("wrong scale shape", lambda h, d: reshaped(h, d, "layers.3.ffn.experts.1.w2.scale"), "found shape"),
    ):
        folder = damaged_copy(work, name.replace(" ", "_"), change)
        for mode in ("dequantize", "shard"):
            expect_failure(f"{name} ({mode})", command(vexil, mode, folder, output), output, text)

    for ranks, text in (("3", "16 routed experts"), ("4", "2 output groups")):
        args = [vexil, "convert", "shard", "--model-parallel", ranks, "--ckpt-path", TINY, "--output", output]
        expect_failure(f"{ranks} ranks", args, output, text)
    tmpfs_runs(vexil, work)


def tmpfs_runs(vexil, work):
    """A disk of 8 MB, then a read-only one, where mounting is allowed."""
    disk = os.path.join(work, "disk")
    os.mkdir(disk)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], stderr=subprocess.DEVNULL).returncode == 0
    if not mounted:
        print("small disk: not run, mounting is not allowed here")
        return
    try:
        output = os.path.join(disk, "out")
        expect_failure("small disk", command(vexil, "dequantize", TINY, output), output, "bytes available")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        expect_failure("read-only disk", command(vexil, "dequantize", TINY, output), output, "Read-only file system")
    finally:
        subprocess.run(["umount", disk], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vexil")
    parser.add_argument("--kills", type=int, default=50, help="per mode")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["kills", "faults"])
    args = parser.parse_args()
    rng = random.Random(args.seed)
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory(prefix="vexil_convert_") as work:
        if args.only != "kills":
            fault_runs(args.vexil, work)
        if args.only != "faults":
            done = {}
            for mode in MODES:
                folder = os.path.join(work, mode)
                os.mkdir(folder)
                source = done[SOURCES[mode]] if mode in SOURCES else TINY
                done[mode] = kill_runs(args.vexil, mode, source, args.kills, rng, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
