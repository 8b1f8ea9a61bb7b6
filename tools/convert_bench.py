#!/usr/bin/env python3
"""Times `vexil convert` against `cp` for the same bytes written. usage: convert_bench.py VEXIL CHECKPOINT WORKDIR [MODE...]

Per mode the conversion and a `cp` of its result take turns, both ending with the bytes on the disk (fsync; `sync -f`) and
both beginning with the page cache dropped (as root; otherwise with their input read once before). Prints the medians and
the ratio cp / vexil: 1 is as fast as cp, more is faster."""
import os
import shutil
import statistics
import subprocess
import sys
import time

ROUNDS = 3
MODES = {
    "dequantize": ["dequantize"],
    "shard": ["shard", "--model-parallel", "2"],
    "shard-fp8": ["shard", "--model-parallel", "2", "--expert-dtype", "fp8"],
}


def prepare(directory):
    subprocess.run(["sync"], check=True)
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return "dropped"
    except OSError:
        for name in os.listdir(directory):
            with open(os.path.join(directory, name), "rb") as f:
                while f.read(1 << 24):
                    pass
        return "warm"


def timed(command):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def bench(vexil, source, work, mode):
    out, copy = os.path.join(work, "out"), os.path.join(work, "copy")
    ours, cps = [], []
    for _ in range(ROUNDS):
        shutil.rmtree(out, ignore_errors=True)
        cache = prepare(source)
        ours.append(timed([vexil, "convert", *MODES[mode], "--ckpt-path", source, "--output", out]))
        cache = prepare(out)
        cps.append(timed(["sh", "-c", f"cp -r '{out}' '{copy}' && sync -f '{copy}'"]))
        shutil.rmtree(copy)
    size = sum(os.path.getsize(os.path.join(out, n)) for n in os.listdir(out))
    shutil.rmtree(out)
    a, b = statistics.median(ours), statistics.median(cps)
    print(f"{mode}: {size / 1e9:.2f} GB, page cache {cache}: vexil {a:.2f} s ({size / a / 1e9:.2f} GB/s), cp {b:.2f} s "
          f"({size / b / 1e9:.2f} GB/s), ratio {b / a:.2f}   all: {[round(t, 2) for t in ours]} {[round(t, 2) for t in cps]}", flush=True)


def main():
    vexil, source, work, *modes = sys.argv[1:]
    for mode in modes or MODES:
        bench(vexil, source, work, mode)


if __name__ == "__main__":
    main()
