#!/usr/bin/env python3
"""A dequantised models/tiny in Transformers' DeepseekV4ForCausalLM against vexil. Usage: transformers_check.py VEXIL

Both compute in f32 from the same BF16 weights, so only the order of sums differs. A sum of K products of f32 is off by
about sqrt(K) u of its size (u = 2^-24, roundings being independent), K = 256 at most here. A token passes 12 sub-layers
of about 6 such sums each, all of which see the error of those before: sqrt(72 * 256) u = 8e-6 relative, and a factor of
10 for what softmaxes, normalisations of small vectors and the Sinkhorn iterations amplify. Where two experts or two
index entries are closer than that, a program may pick the other, and the token's logits then differ by much more: the
bound holds for 99 % of the tokens, and the argmax for as many.
"""
import json
import os
import subprocess
import sys
import tempfile

import packages

packages.require("torch", "transformers", "safetensors", "numpy")
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import DeepseekV4ForCausalLM  # noqa: E402

BOUND = 1e-4  # relative L2 of a token's logits
SHARE = 0.99  # of the tokens
LENGTHS = (1, 7, 65, 200, 400)  # beyond the window of 64, several compressed blocks
VOCABULARY = 2048


def token_lists():
    generator = np.random.default_rng(7)
    return [generator.integers(2, VOCABULARY, n).tolist() for n in LENGTHS]


def reference_logits(folder, lists):
    model, report = DeepseekV4ForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
    )
    wrong = {k: v for k, v in report.items() if v}
    if wrong:
        raise ValueError(f"Transformers did not take every tensor: {wrong}")
    model.eval()
    with torch.no_grad():
        return [model(torch.tensor([ids]), use_cache=False).logits[0].numpy() for ids in lists]


def main():
    vexil = sys.argv[1]
    torch.set_num_threads(2)
    tiny = os.path.join(packages.ROOT, "models", "tiny")
    with tempfile.TemporaryDirectory() as work:
        folder, tokens, output = (os.path.join(work, n) for n in ("bf16", "tokens.json", "logits.safetensors"))
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([vexil, "convert", "dequantize", "--ckpt-path", tiny, "--output", folder], stderr=subprocess.DEVNULL, **quiet)
        lists = token_lists()
        with open(tokens, "w", encoding="utf-8") as f:
            json.dump(lists, f)
        subprocess.run([vexil, "logits", "--ckpt-path", folder, "--tokens", tokens, "--data-format", "f32", "--output", output], **quiet)
        found = load_file(output)
        distances, same = [], []
        for i, expected in enumerate(reference_logits(folder, lists)):
            got = found[f"logits.{i}"].numpy()
            distances.append(np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1))
            same.append(got.argmax(axis=1) == expected.argmax(axis=1))
    distances, same = np.concatenate(distances), np.concatenate(same)
    within = float((distances <= BOUND).mean())
    print(f"{len(distances)} tokens: relative L2 median {np.median(distances):.2g}, largest {distances.max():.2g}; "
          f"{within:.2%} within {BOUND:g}, same argmax {same.mean():.2%}")
    if not (within >= SHARE and same.mean() >= SHARE):
        print(f"transformers_check.py: expected {SHARE:.0%} of both", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
