"""What the GPU peers have in common: the layers that are measured, timing, JSON lines, options.

A peer is built with one layer of each kind and measured with none of them (`base`: embedding and head), with each alone,
and with all three. A layer's time is the difference to `base`; gpu_compare.py puts 43 layers together from these."""
import argparse
import json
import statistics
import sys
import time

import torch

# compress_ratios of a configuration -> the name of the kind
KINDS = {0: "window", 4: "ratio 4", 128: "ratio 128"}
WARM_UP, STEPS, PROMPT_RUNS = 4, 16, 3


def options(description):
    """The command line that every peer has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="config.json of the model")
    parser.add_argument("--context", type=lengths, default=[512, 4096], help="tokens before the decode steps")
    parser.add_argument("--prompt", type=lengths, default=[8192])
    parser.add_argument("--device", default="cuda", help="cpu only checks that the script works")
    return parser


def lengths(text):
    return [int(word) for word in text.split(",") if word]


def read_config(path):
    with open(path) as f:
        return json.load(f)


def stack(config):
    """The kind of each layer of the whole model."""
    return [KINDS[r] for r in config["compress_ratios"][:config["num_hidden_layers"]]]


class Bench:
    """Runs and prints one peer's rows."""

    def __init__(self, peer, device, **about):
        self.peer, self.device = peer, device
        self.emit(what="about", torch=torch.__version__, **about)

    def emit(self, **row):
        print(json.dumps({"peer": self.peer, **row}), flush=True)

    def seconds(self, work):
        self._wait()
        begin = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begin

    def decode(self, step, **row):
        """`step(i)` is the i-th step of a sequence; some run before those that count."""
        self._row([self.seconds(lambda i=i: step(i)) for i in range(WARM_UP + STEPS)][WARM_UP:], what="decode", **row)

    def prefill(self, run, **row):
        """One run does not count. A prompt that does not fit is a row that says so."""
        try:
            self.seconds(run)
            self._row([self.seconds(run) for _ in range(PROMPT_RUNS)], what="prefill", **row)
        except torch.OutOfMemoryError:
            self.emit(what="prefill", failed="out of memory", **row)
            torch.cuda.empty_cache()

    def _row(self, times, **row):
        self.emit(**row, seconds=statistics.median(times), fastest=min(times), slowest=max(times))

    def _wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def run(peer, main):
    """main(), or one row that says why this system cannot be measured here."""
    try:
        main()
    except Exception as e:  # whatever a foreign package raises
        text = " ".join(str(e).split())
        print(json.dumps({"peer": peer, "what": "about", "failed": f"{type(e).__name__}: {text[:300]}"}), flush=True)
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
