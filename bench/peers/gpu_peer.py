"""What the GPU peers have in common: the layers of the model, timing, JSON lines, options.

A peer is built with one layer of each kind, which warm it up. What counts is measured on a model of all layers, made of
these three: layers of a kind share weights, and everything else is as in the whole model. A layer's weights are larger
than any cache, so that nobody gains from it."""
import argparse
import json
import statistics
import sys
import time

import torch

RATIOS = (0, 4, 128)  # compress_ratios of the kinds of layers
WARM_UP, STEPS = 2, 8
PROMPT_SECONDS, PROMPT_RUNS = 5, 3  # a prompt is repeated for so long, so often at most


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
    """Which of the three layers stands for each layer of the model."""
    return [RATIOS.index(r) for r in config["compress_ratios"][:config["num_hidden_layers"]]]


class Bench:
    """Runs and prints one peer's rows."""

    def __init__(self, peer, device, **about):
        self.peer, self.device = peer, device
        self._emit(what="about", torch=torch.__version__, **about)

    def seconds(self, work):
        self._wait()
        begin = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begin

    def decode(self, step, **row):
        """`step(i)` is the i-th step of a sequence; the first ones do not count."""
        self._row([self.seconds(lambda i=i: step(i)) for i in range(WARM_UP + STEPS)][WARM_UP:], what="decode", **row)

    def prefill(self, warm_up, run, **row):
        """A prompt that does not fit is a row that says so."""
        times = []
        try:
            warm_up()
            while len(times) < PROMPT_RUNS and sum(times) < PROMPT_SECONDS:
                times.append(self.seconds(run))
            self._row(times, what="prefill", **row)
        except torch.OutOfMemoryError:
            self._emit(what="prefill", **row, failed="out of memory")
            torch.cuda.empty_cache()

    def _row(self, times, **row):
        self._emit(**row, seconds=statistics.median(times), fastest=min(times), slowest=max(times), runs=len(times))

    def _emit(self, **row):
        print(json.dumps({"peer": self.peer, **row}), flush=True)

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
