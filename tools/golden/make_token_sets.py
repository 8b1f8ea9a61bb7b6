#!/usr/bin/python3
"""Writes the token sequences for comparing implementations on the tiny model: a JSON list of token-id lists.

Eight whole conversations, the longest of each kind, and four sequences of 257, 384, 512 and 640 tokens made of
consecutive conversations and cut at the end. The last is longer than what the model was trained on and is the only one
with more compressed entries than the indexer may pick.
"""
import argparse
import json
import sys

from bpe_tokenizer import Tokenizer

CONCATENATED_LENGTHS = (257, 384, 512, 640)


def read_conversations(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def longest_of_each_kind(conversations, tokenizer):
    longest = {}
    for conversation in conversations:
        ids = tokenizer.encode(conversation["text"])
        if len(ids) > len(longest.get(conversation["kind"], ())):
            longest[conversation["kind"]] = ids
    return [longest[kind] for kind in sorted(longest)]


def concatenated(conversations, tokenizer, lengths):
    """Sequences of the given lengths; each begins where the one before stopped reading."""
    remaining = iter(conversations)
    for length in lengths:
        ids = []
        while len(ids) < length:
            ids += tokenizer.encode(next(remaining)["text"])
        yield ids[:length]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
    parser.add_argument("--conversations", required=True, help='lines of {"kind": ..., "text": ...}')
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer(args.tokenizer)
    conversations = read_conversations(args.conversations)
    sequences = longest_of_each_kind(conversations, tokenizer)
    sequences += concatenated(conversations, tokenizer, CONCATENATED_LENGTHS)
    with open(args.output, "w", encoding="utf-8") as f:
        f.write("[" + ",\n".join(json.dumps(ids, separators=(",", ":")) for ids in sequences) + "]\n")
    print("lengths:", *map(len, sequences), file=sys.stderr)


if __name__ == "__main__":
    main()
