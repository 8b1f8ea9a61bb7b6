#!/usr/bin/env python3
"""Times PyTorch's BF16 linear (oneDNN) and a per-expert loop at the shapes of `vexil bench ops`; JSON lines."""
import argparse
import json
import statistics
import time

import torch

ROTATE_BYTES = 1 << 30


def median_us(body, copies, seconds=0.5):
    body(0)
    times, start, i = [], time.perf_counter(), 1
    while len(times) < 5 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        body(i % copies)
        times.append(time.perf_counter() - before)
        i += 1
    return statistics.median(times) * 1e6


def emit(**row):
    print(json.dumps({"peer": "torch", **row}), flush=True)


def linear(n, k, out, threads):
    copies = ROTATE_BYTES // (2 * k * out) + 1
    drawn = torch.randn(out, k).bfloat16()
    weights = [drawn.clone() for _ in range(copies)]
    x = torch.randn(n, k).bfloat16()
    us = median_us(lambda i: torch.nn.functional.linear(x, weights[i]), copies)
    emit(op="linear", weight="bf16", n=n, k=k, N=out, threads=threads, time_us=us)


def grouped(n, k, out, threads, experts, top=6):
    """What an eager mixture of experts does: one linear per expert that has tokens."""
    copies = ROTATE_BYTES // (2 * k * out * experts) + 1
    drawn = torch.randn(out, k).bfloat16()
    weights = [[drawn.clone() for _ in range(experts)] for _ in range(copies)]
    x = torch.randn(n, k).bfloat16()
    routes = [torch.randint(0, experts, (n, top)) for _ in range(64)]

    def body(i):
        for e in torch.unique(routes[i]).tolist():
            rows = (routes[i] == e).nonzero()[:, 0]
            torch.nn.functional.linear(x[rows], weights[i % copies][e])

    emit(op="grouped_linear", weight="bf16", n=n, k=k, N=out, threads=threads, time_us=median_us(body, len(routes)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    with torch.inference_mode():
        for n in (1, 4, 16, 128, 512):
            for k, out in ((2048, 4096), (4096, 8192)):
                linear(n, k, out, threads)
        grouped(1, 4096, 2048, threads, experts=64)
        grouped(128, 4096, 2048, threads, experts=16)


if __name__ == "__main__":
    main()
