#!/usr/bin/env python3
"""Compares `vexil tokenize` and `detokenize` with the Python package `tokenizers` on random and nasty text, for the
tokenizers of the repository and variants of them. Skipped without the package.

Usage: tokenizer_check.py VEXIL [--seeds A:B] [--kilobytes N]
A text is a long run of random fragments. Where the ids differ, the shortest differing part is printed."""
import argparse
import copy
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

from packages import ROOT, require

require("tokenizers")

from tokenizers import Tokenizer  # noqa: E402

TINY = os.path.join(ROOT, "models/tiny/tokenizer.json")
FULL = os.path.join(ROOT, "testdata/tokenizer/tokenizer.reconstructed.json")
WORDS = "the of don't I'LL WE'RE naïve Straße façade x_y snake_case camelCase http://a.b/c?d=e&f C++ #include <a> ... -- => 3.14 1e-9 0x1F 100,000 $5 50%".split()
SPACES = ["\t", "\n", "\v", "\f", "\r", "\r\n", " ", "  ", "   ", "\x1c", "\x1f", "\u0085", "\u00a0", "\u1680", "\u2000", "\u2009", "\u200a", "\u2028", "\u2029",
          "\u202f", "\u205f", "\u3000", "\u200b", "\u200c", "\u200d", "\ufeff", "\u180e", "\n\n", " \n ", "\r\r\n"]  # fmt: skip
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "1️⃣", "❤️", "☕", "🧑🏿‍🚀", "\U000E0067", "©️"]
RUNS = [(0x4E00, 0x9FFF), (0x3040, 0x309F), (0x30A0, 0x30FF), (0x31F0, 0x31FF), (0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF),
        (0xFF00, 0xFFEF), (0x3000, 0x303F), (0x0600, 0x06FF), (0x0590, 0x05FF), (0x0900, 0x097F), (0x0E00, 0x0E7F), (0x0300, 0x036F), (0x0400, 0x04FF), (0x1F300, 0x1FAFF),
        (0x2000, 0x206F), (0x2070, 0x209F), (0x2150, 0x218F), (0x2460, 0x24FF), (0x00A0, 0x00FF), (0x0000, 0x001F), (0x0080, 0x009F), (0xE000, 0xE0FF), (0xFFF0, 0xFFFF),
        (0x9FA0, 0x9FB0), (0x3038, 0x3042), (0x1D7CE, 0x1D7FF), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)]  # fmt: skip
DIGITS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "N"]
# Characters that came into Unicode after the tables of either side: their class is a matter of versions.
ASSIGNED = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def fragment(r, added):
    kind = r.randrange(14)
    n = r.choice((1, 1, 2, 3, 5, 8, 20))
    if kind == 0:
        return " ".join(r.choice(WORDS) for _ in range(n))
    if kind == 1:
        return "".join(r.choice(SPACES) for _ in range(n))
    if kind == 2:
        return "".join(r.choice(EMOJI) for _ in range(n))
    if kind < 6:
        low, high = r.choice(RUNS)
        text = "".join(chr(r.randint(low, high)) for _ in range(n))
        return "".join(c for c in text if unicodedata.category(c) != "Cn")
    if kind == 6:
        return "".join(r.choice(DIGITS) for _ in range(n))
    if kind == 7:
        return "".join(str(r.randrange(10)) for _ in range(n))
    if kind == 8:
        return "".join(chr(r.choice(ASSIGNED)) for _ in range(n))
    if kind == 9:
        return "".join(chr(r.randrange(128)) for _ in range(n))
    if kind == 10:
        return "".join(r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ aZ9\n") for _ in range(n))
    if kind == 11 and added:
        return "".join(r.choice(added) for _ in range(r.choice((1, 2, 3))))
    if kind == 12 and added:  # nearly an added token
        token = r.choice(added)
        a = r.randrange(len(token))
        return token[:a] + r.choice(("", "x", " ")) + token[a + 1:]
    return r.choice("aé中 ") * r.choice((1, 10, 100))


def long_runs(r):
    """Megabytes without a border, or with one everywhere."""
    return "".join(r.choice(("a", "ab", " ", "中", "\n", "9", "!", "é", "\u0301", "ab ", "x\r\n")) * r.randrange(2000, 60000) for _ in range(8))


def variants():
    """Names and JSON documents: the files as they are, and other spellings of the same kind."""
    for path in (FULL, TINY):
        with open(path, encoding="utf-8") as f:
            base = json.load(f)
        yield os.path.relpath(path, ROOT), base
        if path == FULL:
            continue
        v = copy.deepcopy(base)
        v["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in v["model"]["merges"]]
        v["normalizer"] = {"type": "Sequence", "normalizers": []}
        yield "merges as strings, an empty normalizer", v
        v = copy.deepcopy(base)
        v["added_tokens"] = []
        names = {t["content"] for t in base["added_tokens"]}
        kept = [k for k, _ in sorted(v["model"]["vocab"].items(), key=lambda x: x[1]) if k not in names]
        v["model"]["vocab"] = {k: i for i, k in enumerate(kept)}
        yield "no added tokens", v
        v = copy.deepcopy(base)
        v["model"]["merges"] = v["model"]["merges"][::-1]
        yield "merges in reverse", v
        v = copy.deepcopy(base)
        v["model"]["merges"] = []
        yield "no merges", v
        v = copy.deepcopy(base)
        steps = v["pre_tokenizer"]["pretokenizers"]
        split = copy.deepcopy(steps[0])
        split["pattern"]["Regex"] = "[aeiou]+|\\p{Lu}(?=\\p{Ll})"
        v["pre_tokenizer"]["pretokenizers"] = [split, *steps]
        yield "another Split step in front", v
        v = copy.deepcopy(base)
        v["pre_tokenizer"]["pretokenizers"] = [steps[2], steps[0], steps[-1]]
        yield "Split steps in another order", v
        v = copy.deepcopy(base)
        v["pre_tokenizer"]["pretokenizers"] = steps[-1:]
        yield "ByteLevel alone", v
        v = copy.deepcopy(base)
        for i, t in enumerate(v["added_tokens"]):
            t["normalized"] = i % 3 == 0
            t["special"] = i % 2 == 0
        yield "other flags of added tokens", v
        v = copy.deepcopy(base)
        contents = [c for c in ("<a>", "<a><b>", "<b>", "ab", " the", "\n\n", "日本", "<a><b><c>d") if c not in v["model"]["vocab"]]
        for content in contents:
            token = dict(base["added_tokens"][-1], content=content, normalized=len(content) % 2 == 1)
            token["id"] = 1 + max([*v["model"]["vocab"].values(), *(t["id"] for t in v["added_tokens"])])
            v["added_tokens"].append(token)
        yield "added tokens that contain each other", v


def vexil_ids(vexil, path, text):
    out = subprocess.run([vexil, "tokenize", "--tokenizer", path, "--json", "-"], input=text.encode(), check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)


def vexil_text(vexil, path, ids):
    return subprocess.run([vexil, "detokenize", "--tokenizer", path, "-"], input=json.dumps(ids).encode(), check=True, stdout=subprocess.PIPE).stdout.decode()


def shortest_difference(vexil, path, theirs, parts):
    """Halves the list of fragments while the ids differ."""
    def differs(p):
        text = "".join(p)
        return vexil_ids(vexil, path, text) != theirs.encode(text, add_special_tokens=False).ids

    while len(parts) > 1:
        half = len(parts) // 2
        if differs(parts[:half]):
            parts = parts[:half]
        elif differs(parts[half:]):
            parts = parts[half:]
        elif differs(parts[1:]):
            parts = parts[1:]
        elif differs(parts[:-1]):
            parts = parts[:-1]
        else:
            break
    return "".join(parts)


def check(vexil, path, theirs, parts):
    """What is wrong, or None."""
    text = "".join(parts)
    ids = theirs.encode(text, add_special_tokens=False).ids
    if vexil_ids(vexil, path, text) != ids:
        part = shortest_difference(vexil, path, theirs, parts)
        return f"{part!r}: expected {theirs.encode(part, add_special_tokens=False).ids}, found {vexil_ids(vexil, path, part)}"
    if vexil_text(vexil, path, ids) != text:
        return "the decoded ids are not the text"
    shuffled = ids[:20000]
    random.Random(len(ids)).shuffle(shuffled)  # broken characters
    if vexil_text(vexil, path, shuffled) != theirs.decode(shuffled, skip_special_tokens=False):
        return "shuffled ids decode to other text"
    return None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("vexil")
    p.add_argument("--seeds", default="0:2")
    p.add_argument("--kilobytes", type=int, default=100)
    flags = p.parse_args()
    first, last = map(int, flags.seeds.split(":"))
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        for name, document in variants():
            with open(path, "w", encoding="utf-8") as f:
                json.dump(document, f, ensure_ascii=False)
            theirs = Tokenizer.from_file(path)
            added = [t["content"] for t in document["added_tokens"]]
            size = 0
            for seed in range(first, last):
                r = random.Random(seed)
                parts, length = [], 0
                while length < flags.kilobytes * 1000:
                    parts.append(fragment(r, added))
                    length += len(parts[-1].encode())
                texts = [parts] if seed > first else [parts, [long_runs(r)], [""]]
                for text in texts:
                    fault = check(flags.vexil, path, theirs, text)
                    size += len("".join(text).encode())
                    if fault:
                        faults += 1
                        print(f"{name}, seed {seed}: {fault[:600]}")
            print(f"{name}: {size / 1e6:.1f} MB", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
