#!/usr/bin/python3
"""Share of conversations whose answer a greedy continuation of the prompt would give exactly.

The answer is what follows the last `<Assistant>` token and its `<think>` or `</think>`. One forward pass over the whole
conversation decides: the greedy continuation is the answer exactly when every answer token is the argmax before it.
"""
import argparse
import collections
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from bpe_tokenizer import Tokenizer  # noqa: E402
from make_token_sets import read_conversations  # noqa: E402
from v4_reference import ROUNDINGS, load_model  # noqa: E402

ASSISTANT = "<\uff5cAssistant\uff5c>"


def is_exact(model, ids, assistant_id):
    answer_start = len(ids) - ids[::-1].index(assistant_id) + 1
    predicted = model.forward(ids).argmax(axis=1)
    return (predicted[answer_start - 1 : -1] == ids[answer_start:]).all()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt-path", required=True, help="checkpoint folder with tokenizer.json")
    parser.add_argument("--conversations", required=True, help='lines of {"kind": ..., "text": ...}')
    parser.add_argument("--data-format", choices=("fp8", "bf16", "f32"), default="fp8")
    parser.add_argument("--without", action="append", default=[], choices=ROUNDINGS, help="leave one rounding out")
    parser.add_argument("--per-kind", type=int, metavar="N", help="only the first N conversations of each kind")
    args = parser.parse_args()
    tokenizer = Tokenizer(os.path.join(args.ckpt_path, "tokenizer.json"))
    model = load_model(args.ckpt_path, args.data_format, without=args.without)
    (assistant_id,) = tokenizer.encode(ASSISTANT)
    results = collections.defaultdict(list)
    for conversation in read_conversations(args.conversations):
        kind = results[conversation["kind"]]
        if args.per_kind is None or len(kind) < args.per_kind:
            kind.append(is_exact(model, tokenizer.encode(conversation["text"]), assistant_id))
    for kind in sorted(results):
        print(f"{kind:10} {sum(results[kind]) / len(results[kind]):.3f} of {len(results[kind])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
